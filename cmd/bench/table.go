package main

import (
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/goutbox/goutbox/cmd/bench/internal/workload"
)

// All that can be measured. A new workload, store or peer is one small file in
// internal/workload or internal/subject, and one word here.
var (
	workloads = []workload.Workload{workload.Enqueue, workload.Batch, workload.Pipeline, workload.Drain, workload.Backlog}
	subjects  = []subject.Subject{subject.Bolt, subject.Mem}
)
