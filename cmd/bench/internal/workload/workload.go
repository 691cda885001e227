// Package workload holds what is measured: each workload in one file.
package workload

import (
	"github.com/goutbox/goutbox/cmd/bench/internal/report"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// Workload is one thing that an application does with its outbox.
type Workload struct {
	Name  string
	About string // what is measured, and what is checked afterwards

	// Needs is an ability that not every subject has; "" = none.
	Needs subject.Ability

	// Cases are the numbers of producers to measure; nil means one.
	Cases func(s Settings) []int

	// Write is how many events one write of the ceiling holds: as many as could at
	// best share a sync. nil = there is no ceiling.
	Write func(producers int) int

	// Measure makes one measurement, on an empty folder, and checks it: whatever was
	// acknowledged must be there.
	Measure func(t *Trial) (report.Sample, error)

	Columns []report.Column
}

// some returns cases that are measured unless others are asked for.
func some(cases ...int) func(Settings) []int {
	return func(s Settings) []int {
		if s.Every {
			return s.Producers
		}
		return cases
	}
}

// The columns of everything that accepts events.
var (
	colEvents  = report.Column{Figure: report.Events, Title: "events/s", Spread: true}
	colCeiling = report.Column{Figure: report.OfCeiling, Title: "of ceiling", Spread: true}
	colPerSync = report.Column{Figure: report.PerSync, Title: "rec/sync"}
	colSyncs   = report.Column{Figure: report.Syncs, Title: "syncs/s"}
	colDisk    = report.Column{Figure: report.DiskBytes, Title: "disk B/ev"}
	colRest    = report.Column{Figure: report.RestBytes, Title: "with close"}
	colP50     = report.Column{Figure: report.P50, Title: "call p50"}
	colP99     = report.Column{Figure: report.P99, Title: "p99"}
	colAllocs  = report.Column{Figure: report.Allocs, Title: "allocs/ev"}
	colCPU     = report.Column{Figure: report.CPU, Title: "CPU/ev"}
	colChecks  = report.Column{Figure: report.Checkpoints, Title: "checkpoints"}
)
