// Package draw turns the rows of a run into plots, each as SVG and as PNG.
package draw

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/goutbox/goutbox/cmd/bench/internal/report"
)

// Width and height of a plot.
const (
	width  = 9 * vg.Inch
	height = 5.5 * vg.Inch
)

// All draws what there are rows for, into a folder that exists, and returns the names
// of the files. Caption says what machine the figures are of.
func All(dir, caption string, size int, rows []*report.Row) (files []string, err error) {
	for _, one := range []struct {
		name string
		draw func(rows []*report.Row, size int) *plot.Plot
	}{
		{"throughput", throughput}, {"latency", latency}, {"bytes", bytesPerEvent}, {"heap", heap},
	} {
		p := one.draw(rows, size)
		if p == nil {
			continue
		}
		p.Title.Text += "\n" + caption
		for _, ext := range []string{".svg", ".png"} {
			file := filepath.Join(dir, one.name+ext)
			if err := save(p, file, ext[1:]); err != nil {
				return files, fmt.Errorf("plot: %w", err)
			}
			files = append(files, file)
		}
	}
	return files, nil
}

// save writes a plot with a margin, so that the last figure of an axis is not cut.
func save(p *plot.Plot, file, format string) (err error) {
	const margin = 14
	canvas, err := draw.NewFormattedCanvas(width, height, format)
	if err != nil {
		return err
	}
	all := draw.New(canvas)
	all.SetColor(color.White)
	all.Fill(all.Rectangle.Path())
	p.Draw(draw.Crop(all, margin/2, -margin, margin/2, -margin/2))
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	return errors.Join(err, f.Close())
}

// Folder makes the folder for the plots, unless it is there, and tries to write to it.
func Folder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".plot-*")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

// sheet is an empty plot.
func sheet(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = 11
	p.Title.TextStyle.XAlign = text.XCenter
	p.Title.Padding = vg.Points(6)
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.X.Padding, p.Y.Padding = 0, 0
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = faint, faint
	p.Add(grid)
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = font.Length(9)
	p.Legend.Padding, p.Legend.XOffs, p.Legend.YOffs = vg.Points(1), vg.Points(6), -vg.Points(4)
	return p
}

var (
	faint = color.Gray{Y: 228}
	gray  = color.Gray{Y: 110}
	dash  = []vg.Length{vg.Points(5), vg.Points(3)}

	// palette starts with the colour of our own.
	palette = []color.Color{
		color.RGBA{200, 30, 45, 255}, color.RGBA{31, 98, 168, 255}, color.RGBA{40, 140, 70, 255}, color.RGBA{214, 130, 20, 255},
		color.RGBA{120, 70, 165, 255}, color.RGBA{20, 150, 160, 255}, color.RGBA{140, 90, 60, 255}, color.RGBA{190, 80, 150, 255},
		color.RGBA{110, 120, 20, 255}, color.RGBA{70, 70, 90, 255}, color.RGBA{90, 160, 220, 255},
	}
)

// curve is a line of a plot.
type curve struct {
	name   string
	points plotter.XYs
	low    []float64 // of the rounds, by point; nil = none
	high   []float64
	color  color.Color
	dashed bool
	dots   bool
}

// add draws a curve, and names it in the legend.
func add(p *plot.Plot, c curve) {
	line, err := plotter.NewLine(c.points)
	if err != nil {
		return // there are no points
	}
	line.Color, line.Width = c.color, vg.Points(1.6)
	if c.dashed {
		line.Dashes = dash
	}
	p.Add(line)
	if !c.dots {
		p.Legend.Add(c.name, line)
		return
	}
	dots, _ := plotter.NewScatter(c.points)
	dots.Shape, dots.Color, dots.Radius = draw.CircleGlyph{}, c.color, vg.Points(2.4)
	p.Add(dots)
	p.Legend.Add(c.name, line, dots)
	if c.low == nil {
		return
	}
	spread := make(plotter.YErrors, len(c.points))
	for i, at := range c.points {
		spread[i].Low, spread[i].High = at.Y-c.low[i], c.high[i]-at.Y
	}
	bars, err := plotter.NewYErrorBars(struct {
		plotter.XYer
		plotter.YErrorer
	}{c.points, spread})
	if err == nil {
		bars.Color = c.color
		p.Add(bars)
	}
}

// subjects are the names of those that have rows of a workload, in their order.
func subjects(rows []*report.Row, workload string) (names []string) {
	seen := map[string]bool{}
	for _, r := range rows {
		if r.Workload == workload && !seen[r.Subject] {
			seen[r.Subject] = true
			names = append(names, r.Subject)
		}
	}
	return names
}

func colorOf(i int) color.Color { return palette[i%len(palette)] }

// logTicks are those of a logarithmic axis, with the figures of a unit.
type logTicks struct{ format func(v float64) string }

// Ticks marks 1, 2 and 5 of each power of ten, and names them.
func (t logTicks) Ticks(low, high float64) (ticks []plot.Tick) {
	for power := math.Floor(math.Log10(low)); power <= math.Ceil(math.Log10(high)); power++ {
		for _, n := range []float64{1, 2, 3, 4, 5, 6, 7, 8, 9} {
			v := n * math.Pow(10, power)
			if v < low || v > high {
				continue
			}
			label := ""
			if n == 1 || (n == 2 || n == 5) && high/low < 500 {
				label = t.format(v)
			}
			ticks = append(ticks, plot.Tick{Value: v, Label: label})
		}
	}
	return ticks
}

// fixed are ticks at certain values.
func fixed(values []float64) plot.ConstantTicks {
	ticks := make(plot.ConstantTicks, len(values))
	for i, v := range values {
		ticks[i] = plot.Tick{Value: v, Label: plain(v)}
	}
	return ticks
}

// plain prints a number with k and M.
func plain(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + " M"
	case v >= 1e4 || v >= 1e3 && math.Mod(v, 1e3) == 0:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + " k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// evenTicks are some five, at multiples of 1, 2 or 5 times a power of ten.
func evenTicks(low, high float64) (ticks []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/4)))
	for _, n := range []float64{5, 2} {
		if (high-low)/(n*step) >= 4 {
			step *= n
			break
		}
	}
	for v := math.Ceil(low/step) * step; v <= high; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: plain(v)})
	}
	return ticks
}

// seconds prints a duration.
func seconds(v float64) string { return strings.TrimSpace(report.Seconds.Format(v)) }

// room widens a logarithmic axis, so that curves and legend do not meet.
func room(a *plot.Axis, below, above float64) {
	a.Min, a.Max = a.Min/below, a.Max*above
}
