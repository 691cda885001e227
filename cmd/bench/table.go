package main

import (
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/goutbox/goutbox/cmd/bench/internal/workload"
)

// All that can be measured. A new workload, store or peer is one small file in
// internal/workload or internal/subject, and one word here.
var (
	workloads = []workload.Workload{
		workload.Enqueue, workload.Batch, workload.Do, workload.Pipeline, workload.Latency, workload.Keys, workload.Tx,
		workload.Retry, workload.Outage, workload.Recover, workload.Drain, workload.Backlog,
	}
	subjects = []subject.Subject{subject.Bolt, subject.Mem, subject.Postgres}

	// peers are the contenders of other projects. They are in the program with the
	// build tag peers alone: see peers.go.
	peers []subject.Subject
)
