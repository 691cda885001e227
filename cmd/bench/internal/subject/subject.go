// Package subject holds what is measured: each store of goutbox and each peer, in one
// small file behind one interface.
package subject

import (
	"context"

	"github.com/goutbox/goutbox/cmd/bench/internal/server"
)

// Subject is one contender.
type Subject struct {
	Name  string
	About string // one line: what it is, and with which settings

	// Durable says that an acknowledged event survives a power cut. What is not
	// durable is shown as a reference: it is neither compared with the ceiling nor
	// opened again for the check.
	Durable bool

	// Most is the largest backlog it is asked to hold where a workload can choose;
	// 0 = any.
	Most int

	// Can is what it is able to do besides the methods of Queue.
	Can []Ability

	// Open opens the queue in a folder, and creates it if the folder is empty.
	Open func(dir string) (Queue, error)

	// OpenTx opens the queue in a database of the application's; nil unless it Joins.
	OpenTx func(dir string) (TxQueue, error)

	// OpenUnsynced opens the queue without syncs, to store a backlog whose storing is
	// not what is measured; nil = Open.
	OpenUnsynced func(dir string) (Queue, error)

	// On returns the subject on a server of PostgreSQL, without which it has nothing but
	// a name; nil = it needs none.
	On func(s *server.Server) Subject

	// Elsewhere says that the events are on a server, not in the folder, whose disk may be that of
	// another machine: there is no ceiling, nor a folder to copy.
	Elsewhere bool

	// Discard removes what is not in the folder; nil = there is nothing.
	Discard func(dir string) error
}

// Queue is what a workload needs of a contender. A publisher here is a function
// that takes a payload and does nothing else with it; it may be called from
// several goroutines at a time.
type Queue interface {
	// Enqueue returns nil when the event is as durable as the subject says. The
	// payload's memory is the caller's again when it returns.
	Enqueue(ctx context.Context, payload []byte) error
	// EnqueueBatch is Enqueue for several events in one call, all or none.
	EnqueueBatch(ctx context.Context, payloads [][]byte) error

	// Consume delivers what waits and what comes, until ctx ends. What it has
	// delivered when it returns nil is not delivered again.
	Consume(ctx context.Context, publish func(payload []byte)) error
	// Drain delivers what waits, and returns.
	Drain(ctx context.Context, publish func(payload []byte)) error

	// List calls f for every event that waits.
	List(ctx context.Context, f func(payload []byte)) error
	// Counts says what the queue has, and what it has done.
	Counts(ctx context.Context) (Counts, error)
	// Close lets go of the folder; everything is on disk.
	Close() error
}

// Counts is what a queue says of itself.
type Counts struct {
	Waiting uint64 // not delivered: waiting, or in flight
	Lost    uint64 // given up or dropped, which no workload here asks for

	// Since it was opened. A queue that does not count them has zeros.
	Syncs       uint64 // syncs that made accepted events durable
	Records     uint64 // records that those made durable
	Bytes       uint64 // written to files; of a server: to its log, which others write to as well
	Checkpoints uint64 // transactions that moved events from a log to where they wait
}
