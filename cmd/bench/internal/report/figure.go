// Package report turns the figures of several rounds into a table, JSON, or the
// format of Go benchmarks.
package report

import (
	"math"
	"slices"
)

// Unit says what a figure counts, and so how it is printed.
type Unit string

const (
	Rate    Unit = "per second"
	Count   Unit = "count"
	Ratio   Unit = "ratio"
	Seconds Unit = "seconds"
	Bytes   Unit = "bytes"
	Memory  Unit = "bytes of memory"
)

// Figure is one thing that is measured. Its name is the key in JSON and in Go
// benchmark lines.
type Figure struct {
	Name  string
	Unit  Unit
	Curve bool // a point of a curve, for plots and JSON
}

// The figures of more than one workload.
var (
	Events      = Figure{Name: "events_per_second", Unit: Rate}
	Ceiling     = Figure{Name: "ceiling_events_per_second", Unit: Rate}
	RawSyncs    = Figure{Name: "raw_syncs_per_second", Unit: Rate}
	OfCeiling   = Figure{Name: "ratio_to_ceiling", Unit: Ratio}
	Syncs       = Figure{Name: "syncs_per_second", Unit: Rate}
	PerSync     = Figure{Name: "records_per_sync", Unit: Count}
	DiskBytes   = Figure{Name: "disk_bytes_per_event", Unit: Bytes}
	RestBytes   = Figure{Name: "disk_bytes_per_event_with_close", Unit: Bytes}
	P50         = Figure{Name: "call_p50", Unit: Seconds}
	P99         = Figure{Name: "call_p99", Unit: Seconds}
	Allocs      = Figure{Name: "allocs_per_event", Unit: Count}
	HeapBytes   = Figure{Name: "heap_bytes_per_event", Unit: Bytes}
	CPU         = Figure{Name: "cpu_per_event", Unit: Seconds}
	Checkpoints = Figure{Name: "checkpoints", Unit: Count}
	Total       = Figure{Name: "events", Unit: Count}
)

// Sample holds the figures of one measurement. What could not be measured is not
// in it.
type Sample map[Figure]float64

// Set notes a figure, unless it is no number: what was divided by nothing.
func (s Sample) Set(f Figure, v float64) {
	if !math.IsNaN(v) && !math.IsInf(v, 0) {
		s[f] = v
	}
}

// Series is what several rounds gave for one figure.
type Series struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"` // in the order they were measured
}

func newSeries(rounds []float64) Series {
	sorted := slices.Sorted(slices.Values(rounds))
	n := len(sorted)
	return Series{
		Median: (sorted[(n-1)/2] + sorted[n/2]) / 2,
		Min:    sorted[0], Max: sorted[n-1], Rounds: rounds,
	}
}

// Row is all that was measured of one subject in one case.
type Row struct {
	Workload  string
	Subject   string
	Producers int
	Samples   []Sample // one of each round
}

// Series returns what the rounds gave for a figure; false if none has it.
func (r *Row) Series(f Figure) (Series, bool) {
	var rounds []float64
	for _, s := range r.Samples {
		if v, ok := s[f]; ok {
			rounds = append(rounds, v)
		}
	}
	if len(rounds) == 0 {
		return Series{}, false
	}
	return newSeries(rounds), true
}

// figures are those that the row has, by name.
func (r *Row) figures() []Figure {
	all := map[Figure]bool{}
	for _, s := range r.Samples {
		for f := range s {
			all[f] = true
		}
	}
	list := make([]Figure, 0, len(all))
	for f := range all {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Figure) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return list
}
