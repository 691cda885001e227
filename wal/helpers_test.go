package wal_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/goutbox/goutbox/wal"
	"github.com/goutbox/goutbox/wal/waltest"
	"github.com/stretchr/testify/require"
)

// segmentBytes is the smallest segment: tests want many.
const segmentBytes = 64 << 10

var ctx = context.Background()

// options are those of a log in memory.
func options(disk *waltest.FS) wal.Options {
	return wal.Options{FS: disk, SegmentBytes: segmentBytes}
}

// open opens a log in memory. It is not closed at the end: tests that crash leave it as it is.
func open(t testing.TB, disk *waltest.FS) *wal.Log {
	t.Helper()
	return openWith(t, options(disk))
}

func openWith(t testing.TB, opts wal.Options) *wal.Log {
	t.Helper()
	l, err := wal.Open("wal", opts)
	require.NoError(t, err)
	return l
}

// appendAll appends records one by one.
func appendAll(t testing.TB, l *wal.Log, records ...[]byte) {
	t.Helper()
	for _, r := range records {
		_, err := l.Append(ctx, r)
		require.NoError(t, err)
	}
}

// text returns a short record.
func text(n int) []byte { return fmt.Appendf(nil, "record %d", n) }

// texts returns records from to, both included.
func texts(from, to int) [][]byte {
	var records [][]byte
	for n := from; n <= to; n++ {
		records = append(records, text(n))
	}
	return records
}

// big returns a record of so many bytes, different for each n.
func big(n, size int) []byte {
	data := make([]byte, size)
	copy(data, text(n))
	for i := len(text(n)); i < size; i++ {
		data[i] = byte(i*7 + n)
	}
	return data
}

// replay returns what the log has from a position on.
func replay(l *wal.Log, from wal.Position) (records map[wal.Position]string, err error) {
	records = map[wal.Position]string{}
	for r, err := range l.Replay(from) {
		if err != nil {
			return records, err
		}
		records[r.Position] = string(r.Data)
	}
	return records, nil
}

// requireRecords checks that the log has exactly these records, the first of them at position from.
func requireRecords(t testing.TB, l *wal.Log, from wal.Position, want ...[]byte) {
	t.Helper()
	got, next := [][]byte{}, from
	for r, err := range l.Replay(0) {
		require.NoError(t, err)
		require.Equal(t, next, r.Position)
		got = append(got, append([]byte{}, r.Data...))
		next++
	}
	require.Equal(t, len(want), len(got))
	for i := range want {
		require.Equal(t, string(want[i]), string(got[i]))
	}
}

// history is what a workload did, for checks after a crash or a fault.
type history struct {
	disk    *waltest.FS
	data    map[wal.Position]string       // what was queued
	batch   map[wal.Position]wal.Position // last position of a batch -> its first
	acks    []mark                        // durable up to pos, known after so many operations
	trims   []mark                        // no longer needed before pos, asked for after so many operations
	refused map[wal.Position]bool         // failed with ErrNoSpace: must never be seen
	serial  int
	reached reached
}

// reached counts how often a test has been at a place that it is about: a test that no longer gets there passes for no
// reason.
type reached map[string]int

// found notes what Open met on a disk that had just been started.
func (r reached) found(l *wal.Log, disk *waltest.FS) {
	for what, met := range map[string]bool{
		"torn tail":        l.Recovery().TornBytes > 0,
		"no witness":       l.Synced() < l.Durable(),
		"spare adopted":    l.Stats().Spares > 0,
		"several segments": l.Stats().Segments > 1,
		"empty":            l.Stats().Segments == 0,
		"trimmed":          l.First() > 1,
	} {
		if met {
			r[what]++
		}
	}
	for n := range disk.Ops() {
		switch op := disk.Op(n); {
		case op.Kind == waltest.Remove && filepath.Ext(op.Name) == ".tmp":
			r["unfinished spare removed"]++
		case op.Kind == waltest.Mkdir && op.Err == nil:
			r["folder made"]++
		}
	}
}

// require fails the test unless it has been at all of these places.
func (r reached) require(t *testing.T, places ...string) {
	t.Helper()
	t.Logf("reached: %v", r)
	for _, p := range places {
		require.Positive(t, r[p], "the test never met: %s", p)
	}
}

type mark struct {
	ops int
	pos wal.Position
}

func newHistory(disk *waltest.FS) *history {
	return &history{
		disk:    disk,
		data:    map[wal.Position]string{},
		batch:   map[wal.Position]wal.Position{},
		refused: map[wal.Position]bool{},
		reached: reached{},
	}
}

// make returns n new records of the given size, all different.
func (h *history) make(n, size int) [][]byte {
	records := make([][]byte, n)
	for i := range records {
		h.serial++
		records[i] = big(h.serial, size)
	}
	return records
}

// queued notes a batch that was given its place.
func (h *history) queued(last wal.Position, records [][]byte) {
	first := last - wal.Position(len(records)) + 1
	h.batch[last] = first
	for i, data := range records {
		h.data[first+wal.Position(i)] = string(data)
	}
}

// append appends a batch and notes the outcome.
func (h *history) append(l *wal.Log, n, size int) error {
	records := h.make(n, size)
	last, err := l.Append(ctx, records...)
	if last > 0 {
		h.queued(last, records)
	}
	if err == nil {
		h.acks = append(h.acks, mark{h.disk.Ops(), last})
	}
	return err
}

// write writes a batch without waiting for it.
func (h *history) write(l *wal.Log, n, size int) error {
	records := h.make(n, size)
	last, err := l.Write(records...)
	if err == nil {
		h.queued(last, records)
	}
	return err
}

// trim notes the wish before it is carried out: a crash in the middle may have granted it.
func (h *history) trim(l *wal.Log, before wal.Position) error {
	h.trims = append(h.trims, mark{h.disk.Ops(), before})
	return l.Trim(before)
}

// at returns the highest mark made by the time of so many operations.
func at(marks []mark, ops int) (highest wal.Position) {
	for _, m := range marks {
		if m.ops <= ops {
			highest = max(highest, m.pos)
		}
	}
	return highest
}

// check compares a recovered log with the history, up to the moment when ops operations had been done. It returns an
// error, not a failure, as it runs many thousand times and require is slow.
func (h *history) check(l *wal.Log, ops int) error {
	got, err := replay(l, 0)
	if err != nil {
		return err
	}
	acked, trimmed := at(h.acks, ops), at(h.trims, ops)
	if l.Next()-1 < acked {
		return fmt.Errorf("acknowledged up to %d, recovered up to %d", acked, l.Next()-1)
	}
	for p := max(trimmed, 1); p <= acked; p++ {
		if _, ok := got[p]; !ok && !h.refused[p] {
			return fmt.Errorf("record %d was acknowledged and not trimmed, but is gone; first is %d", p, l.First())
		}
	}
	for p, data := range got {
		switch {
		case h.data[p] != data:
			return fmt.Errorf("record %d is not what was written", p)
		case h.refused[p]:
			return fmt.Errorf("record %d was refused for want of space, but is there", p)
		case p < l.First() || p >= l.Next():
			return fmt.Errorf("record %d is outside [%d, %d)", p, l.First(), l.Next())
		}
	}
	for last, first := range h.batch {
		_, some := got[last]
		for p := first; p < last; p++ {
			if _, ok := got[p]; ok != some && p >= l.First() {
				return fmt.Errorf("batch %d to %d is there in part", first, last)
			}
		}
	}
	return nil
}
