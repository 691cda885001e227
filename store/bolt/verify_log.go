package bolt

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// tail is what the log says beyond the database.
type tail struct {
	since    ledger
	lastID   outbox.ID
	tasks    map[outbox.ID]tailTask
	baseline bool
	gaps     gaps // with what the database knows
}

// tailTask is where a task is at the end of the log.
type tailTask struct {
	home  home
	there bool // the log or the database has the task itself
}

// log reads the log and compares it with the database.
func (v *verifier) log(o options, dir string, has bool) error {
	if !has {
		if v.known && v.state.checkpoint > 0 {
			v.found(Finding{File: logName, Err: fmt.Errorf("%w: there is no log, but the database has seen record %d", outbox.ErrMismatch, v.state.checkpoint)})
		}
		return nil
	}
	report, err := wal.Verify(dir, wal.Options{Store: v.uuid, FS: o.logFS}, func(rec wal.Record) error {
		err := decodeOps(rec.Data, func(o op) error { return v.tail.read(v, rec.Position, &o) })
		if err != nil {
			v.found(Finding{File: logName, Err: fmt.Errorf("record %d: %w", rec.Position, err)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if v.Records = report.Records; v.uuid == [16]byte{} {
		v.Store = report.Store
	}
	for _, f := range report.Findings {
		err := f.Err
		for _, p := range logErrors {
			if errors.Is(err, p.from) {
				err = fmt.Errorf("%w: %w", p.to, err)
				break
			}
		}
		v.found(Finding{File: filepath.Join(logName, f.File), Offset: f.Offset, Note: f.Torn, Err: err})
	}
	if cp := v.state.checkpoint; v.known {
		switch {
		case report.Next <= v.state.knows():
			cp = v.state.knows()
			v.found(Finding{File: logName, Err: fmt.Errorf("%w: it ends at record %d, but the database knows record %d", outbox.ErrMismatch, report.Next-1, cp)})
		case report.First > cp+1 && !v.tail.baseline:
			v.found(Finding{File: logName, Err: fmt.Errorf("%w: it begins at record %d, but the database knows only record %d", outbox.ErrMismatch, report.First, cp)})
		}
	}
	return nil
}

// logErrors are the log's words for findings, and the outbox's.
var logErrors = [...]struct{ from, to error }{
	{wal.ErrCorrupt, outbox.ErrCorrupt},
	{wal.ErrMismatch, outbox.ErrMismatch},
	{wal.ErrVersion, outbox.ErrVersion},
}

// read notes what an operation did, as recovery would.
func (t *tail) read(v *verifier, pos wal.Position, o *op) error {
	if o.kind == opCreate {
		h, err := decodeHeader(o.raw)
		if err != nil {
			return err
		}
		o.id = h.id
	}
	if v.known && pos > v.state.gapsAt {
		t.gaps.apply(o, true)
	}
	switch {
	case o.kind == opGaps:
		return nil
	case !v.known, o.kind == opBase && pos <= v.salvaged && o.base.checkpoint != v.state.checkpoint:
		return nil
	case o.kind == opBase && o.base.checkpoint > v.state.checkpoint:
		return fmt.Errorf("%w: it follows the checkpoint at %d, but the database knows only record %d", outbox.ErrMismatch, o.base.checkpoint, v.state.checkpoint)
	case pos <= v.state.checkpoint, o.kind == opBase && o.base.checkpoint < v.state.checkpoint:
		return nil
	case o.kind == opBase:
		t.baseline, t.since = true, o.base.since
		t.saw(o.base.lastID)
		return nil
	}
	t.since.add(o.effect(), 1)
	now := t.tasks[o.id]
	switch o.kind {
	case opCreate:
		t.saw(o.id)
		now = tailTask{home: homeTasks, there: true}
		if o.replaces != (outbox.ID{}) {
			t.tasks[o.replaces] = tailTask{}
		}
	case opRetry, opRequeue:
		now.home = homeTasks
	case opBury, opPark, opDamage:
		now.home = homeDead
	default:
		now = tailTask{}
	}
	t.tasks[o.id] = now
	return nil
}

func (t *tail) saw(id outbox.ID) {
	if id.Compare(t.lastID) > 0 {
		t.lastID = id
	}
}
