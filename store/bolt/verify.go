package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goutbox/goutbox/outbox"
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
	path, logDir := filepath.Join(dir, databaseName), filepath.Join(dir, logName)
	_, err = os.Stat(path)
	hasDatabase := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("bolt: verify: %w", err)
	}
	hasLog, err := o.hasSegments(logDir)
	if err != nil {
		return r, fmt.Errorf("bolt: verify: %w", err)
	}
	if !hasDatabase && !hasLog {
		return r, fmt.Errorf("bolt: verify %s: no store: %w", dir, fs.ErrNotExist)
	}
	lock, err := takeLock(dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	v := verifier{Report: &r, tail: tail{tasks: map[outbox.ID]tailTask{}}}
	if hasDatabase {
		f, err := os.Open(path)
		if err != nil {
			return r, fmt.Errorf("bolt: verify: %w", err)
		}
		defer f.Close()
		if busy, _ := tryLock(f); busy {
			return r, fmt.Errorf("%w: %s is in use", outbox.ErrLocked, path)
		}
		if err := v.structure(f); err != nil {
			return r, fmt.Errorf("bolt: verify: %w", err)
		}
	} else {
		v.found(Finding{File: databaseName, Err: fmt.Errorf("%w: there is a log, but the database is missing", outbox.ErrMismatch)})
	}
	if err := v.log(o, logDir, hasLog); err != nil {
		return r, fmt.Errorf("bolt: verify: %w", err)
	}
	if v.known {
		v.content()
	}
	return r, v.failed
}

// verifier is one Verify under way.
type verifier struct {
	*Report
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
