package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

// Finding is one thing that is not as it should be in the files of a store.
type Finding struct {
	File   string    // name in the store's folder
	Offset int64     // where in the file, as near as it is known
	Bucket string    // of the database, if it is about one
	ID     outbox.ID // of the task, if it is about one
	Note   bool      // harmless: what was being written when the last run ended, or space that is lost
	Err    error     // what it is: ErrCorrupt, ErrMismatch or ErrVersion, unless it is a note
}

// String says it in a line.
func (f Finding) String() string {
	var b strings.Builder
	if f.Note {
		b.WriteString("note: ")
	}
	fmt.Fprintf(&b, "%s, byte %d: ", f.File, f.Offset)
	if f.Bucket != "" {
		fmt.Fprintf(&b, "bucket %s: ", f.Bucket)
	}
	if f.ID != (outbox.ID{}) {
		fmt.Fprintf(&b, "task %s: ", f.ID)
	}
	fmt.Fprint(&b, f.Err)
	return b.String()
}

// Report is what [Verify] found.
type Report struct {
	Store   [16]byte // UUID
	Waiting uint64   // tasks that wait: those in the database, and those in the log only
	Dead    uint64   // dead letters, likewise
	Records uint64   // intact records in the log

	// Findings has the first hundred of them. More counts the others.
	Findings []Finding
	More     int

	damaged int
}

// OK reports whether nothing but notes was found.
func (r *Report) OK() bool { return r.damaged == 0 }

// String is the report for people to read.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d tasks wait, %d are dead, the log has %d intact records\n", r.Waiting, r.Dead, r.Records)
	for _, f := range r.Findings {
		b.WriteString(f.String() + "\n")
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.More)
	}
	if r.OK() {
		b.WriteString("ok\n")
	} else {
		fmt.Fprintf(&b, "damaged: %d findings\n", r.damaged)
	}
	return b.String()
}

func (r *Report) add(f Finding) {
	if !f.Note {
		r.damaged++
	}
	if len(r.Findings) >= maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, f)
}

// Verify checks all files of the store in the folder dir, and changes none; it makes
// LOCK if that is missing, so the folder must be writable. The store must not be open, or the error is [outbox.ErrLocked]. It checks
//
//   - the structure of the database, page by page, used and free, apart from bbolt,
//   - the checksum of every value, and of every record of the log,
//   - that each index entry points to a task and each task is found by its indexes,
//   - that database and log are of one store and one moment,
//   - and that the counters (P5) and the usage equal a recount, with what the log says
//     beyond the database.
//
// It goes on after damage: all that it finds is in the report, and an error means that
// files can not be read at all. On a store that was left by a crash it finds no more
// than notes. Pages and records are read once or twice, so it takes as long as reading
// the files; for each 262,144 tasks the indexes are read once more. Memory does not
// depend on how many tasks there are, but on what the log has beyond the database. Of
// an attached store, see [Attach], it finds that the database is not there.
//
// All options may be given; they make no difference.
func Verify(dir string, opts ...Option) (r Report, err error) {
	o := buildOptions(opts)
	lock, err := takeStoreLock(&o, dir)
	if err != nil {
		return r, fmt.Errorf("bolt: verify: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	v, err := o.verify(dir)
	if err != nil {
		return r, fmt.Errorf("bolt: verify: %w", err)
	}
	v.close()
	return *v.Report, v.failed
}

// takeStoreLock takes the lock of a folder that has a store in it.
func takeStoreLock(o *options, dir string) (*os.File, error) {
	_, err := os.Stat(filepath.Join(dir, databaseName))
	if errors.Is(err, fs.ErrNotExist) {
		var has bool
		if has, err = o.hasSegments(filepath.Join(dir, logName)); err == nil && !has {
			err = fmt.Errorf("%s: no store: %w", dir, fs.ErrNotExist)
		}
	}
	if err != nil {
		return nil, err
	}
	return takeLock(dir)
}

// verify is Verify for whoever holds the lock. The database's file is left open.
func (o *options) verify(dir string) (v *verifier, err error) {
	path, logDir := filepath.Join(dir, databaseName), filepath.Join(dir, logName)
	hasLog, err := o.hasSegments(logDir)
	if err != nil {
		return nil, err
	}
	v = &verifier{Report: &Report{}, tail: tail{tasks: map[outbox.ID]tailTask{}}}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	v.file, err = os.Open(path)
	switch {
	case err == nil:
		if busy, _ := tryLock(v.file); busy {
			return v, fmt.Errorf("%w: %s is in use", outbox.ErrLocked, path)
		}
		if err := v.structure(v.file); err != nil {
			return v, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return v, err
	default:
		v.file = nil
		v.found(Finding{File: databaseName, Err: fmt.Errorf("%w: there is a log, but the database is missing", outbox.ErrMismatch)})
	}
	if err := v.log(*o, logDir, hasLog); err != nil {
		return v, err
	}
	if v.known {
		v.content()
	}
	return v, nil
}

func (v *verifier) close() {
	if v != nil && v.file != nil {
		_ = v.file.Close() // which was only read
	}
}

// verifier is one Verify under way.
type verifier struct {
	*Report
	file    *os.File // of the database; nil if there is none
	p       *pages
	buckets map[string]bucketRef
	failed  error // of reading the file

	known   bool // the database's state
	uuid    [16]byte
	version uint32
	state   state
	usage   usage
	counted usage
	hasUse  bool
	tail    tail

	salvaged wal.Position // see Salvage
}

func (v *verifier) found(f Finding) { v.add(f) }

// page notes what is wrong with a page.
func (v *verifier) page(err error) {
	var e *pageError
	switch {
	case !errors.As(err, &e):
		v.failed = errors.Join(v.failed, err)
	case !errors.Is(e.cause, outbox.ErrCorrupt) && !errors.Is(e.cause, outbox.ErrVersion): // of the disk
		v.failed = errors.Join(v.failed, err)
		v.found(Finding{File: databaseName, Offset: e.offset, Err: e})
	case e.note:
		v.found(Finding{File: databaseName, Offset: e.offset, Note: true, Err: e})
	default:
		v.found(Finding{File: databaseName, Offset: e.offset, Err: fmt.Errorf("%w: %w", e.cause, e)})
	}
}
