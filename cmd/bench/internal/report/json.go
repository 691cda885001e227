package report

import (
	"encoding/json"
	"io"
)

// Document is a whole run.
type Document struct {
	Machine  any      `json:"machine"`
	Settings any      `json:"settings"`
	Notes    []string `json:"notes,omitempty"`
	Results  []Entry  `json:"results"`
}

// Entry is a [Row] in JSON.
type Entry struct {
	Workload  string                 `json:"workload"`
	Store     string                 `json:"store"`
	Producers int                    `json:"producers"`
	Figures   map[string]EntryFigure `json:"figures"`
}

// EntryFigure is a figure with its unit.
type EntryFigure struct {
	Unit Unit `json:"unit"`
	Series
}

// Entry returns the row with all that was measured.
func (r *Row) Entry() Entry {
	e := Entry{Workload: r.Workload, Store: r.Subject, Producers: r.Producers, Figures: map[string]EntryFigure{}}
	for _, f := range r.figures() {
		s, _ := r.Series(f)
		e.Figures[f.Name] = EntryFigure{f.Unit, s}
	}
	return e
}

// JSON prints the document.
func JSON(w io.Writer, d Document) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}
