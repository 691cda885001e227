package report

import (
	"fmt"
	"strconv"
	"strings"
)

// Format prints a figure for a table.
func (u Unit) Format(v float64) string {
	switch u {
	case Rate:
		return grouped(three(v))
	case Ratio:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case Seconds:
		return duration(v)
	case Bytes:
		return size(v)
	case Memory:
		return strconv.FormatFloat(v/(1<<20), 'f', 1, 64) + " MiB"
	}
	if v < 100 && v != float64(int64(v)) {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return grouped(v)
}

// three keeps three significant digits: the others are noise.
func three(v float64) float64 {
	s, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	return s
}

// grouped prints a whole number with commas.
func grouped(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	var b strings.Builder
	for i, digit := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

func duration(seconds float64) string {
	for _, u := range [...]struct {
		name string
		size float64
	}{{"s", 1}, {"ms", 1e-3}, {"µs", 1e-6}} {
		if seconds >= u.size*0.9995 {
			return strconv.FormatFloat(three(seconds/u.size), 'f', -1, 64) + " " + u.name
		}
	}
	return strconv.FormatFloat(seconds*1e9, 'f', 0, 64) + " ns"
}

func size(bytes float64) string {
	switch {
	case bytes >= 10<<20:
		return fmt.Sprintf("%s MiB", grouped(bytes/(1<<20)))
	case bytes >= 100:
		return grouped(bytes)
	}
	return strconv.FormatFloat(three(bytes), 'f', -1, 64)
}

// Wrap breaks a text into lines of some 110 characters; all but the first begin
// with the indent.
func Wrap(text, indent string) string {
	const width = 110
	var b strings.Builder
	n := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case n+1+len(word) > width:
			b.WriteString("\n" + indent)
			n = len(indent)
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	return b.String()
}
