package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Column is one of a table.
type Column struct {
	Figure
	Title  string
	Spread bool // print minimum and maximum of the rounds beside the median
}

// Table prints rows, one line each: medians of the rounds. A column of which no row has anything is
// left out.
func Table(w io.Writer, columns []Column, rows []*Row) {
	columns = slices.DeleteFunc(slices.Clone(columns), func(c Column) bool {
		return !slices.ContainsFunc(rows, func(r *Row) bool {
			_, ok := r.Series(c.Figure)
			return ok
		})
	})
	lines := [][]string{{"store", "producers"}}
	for _, c := range columns {
		lines[0] = append(lines[0], c.Title)
		if c.Spread {
			lines[0] = append(lines[0], "min … max")
		}
	}
	for _, r := range rows {
		line := []string{r.Subject, grouped(float64(r.Producers))}
		for _, c := range columns {
			line = append(line, c.cells(r)...)
		}
		lines = append(lines, line)
	}
	align(w, lines)
}

func (c Column) cells(r *Row) []string {
	s, ok := r.Series(c.Figure)
	median, spread := "-", "-"
	if ok {
		median = c.Unit.Format(s.Median)
		spread = c.Unit.Format(s.Min) + " … " + c.Unit.Format(s.Max)
	}
	if !c.Spread {
		return []string{median}
	}
	return []string{median, spread}
}

// align prints lines with the first column on the left, the others on the right.
func align(w io.Writer, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString("  " + cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
