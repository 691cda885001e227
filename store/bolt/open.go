package bolt

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Names inside a store's folder.
const (
	databaseName = "outbox.db"
	logName      = "wal"
	lockName     = "LOCK"
	tmpSuffix    = ".tmp"
)

// Open opens the store in the folder dir, and creates folder and store if they are
// missing. The store owns outbox.db, outbox.db.tmp, wal/ and LOCK in it, and nobody
// else may touch them while it is open.
//
// After a crash, Open replays the log: every event that was accepted is there, and
// whatever was in flight waits again (P1). That costs what the log holds, not what
// waits. Two things cost more: the first opening of a store of format 1 counts all its
// tasks, and a database of 1 MiB or less has its indexes checked.
//
// Errors: [outbox.ErrLocked] when somebody has the store open, [outbox.ErrInvalid] when
// dir is a file or an option is impossible here, [outbox.ErrCorrupt],
// [outbox.ErrMismatch] and [outbox.ErrVersion] with nothing changed in the files
// that are named, and those of the file system. [Verify] says more about a damaged
// store.
func Open(dir string, opts ...Option) (*Store, error) {
	s, err := prepare(dir, opts)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, databaseName)
	s.owned, s.path = true, path
	if err = s.opts.ensureDatabase(dir, path); err == nil {
		var db *bbolt.DB
		if db, s.file, err = s.opts.openDatabase(path); err == nil {
			s.db.Store(db)
			err = syncDatabase(db)
			if err == nil && s.opts.closedOnly {
				err = s.compactClosed()
			}
		}
	}
	if err == nil {
		err = s.start()
	}
	if err != nil {
		return nil, advise(errors.Join(err, s.release()), dir)
	}
	return s, nil
}

// Attach opens a store whose tasks live in a database that the application owns
// and goes on using, in a bucket of their own, so that [WithTx] can accept events
// in the application's own transactions. The folder dir holds the store's log and
// LOCK; keep it on the same disk and back up both together, or neither. The
// application closes db after it has closed the store.
//
// A database opened with NoSync or read-only is refused: its commits would not be
// durable, and the log would be recycled too early. The store never shrinks the
// application's file, nor keeps a reserve in it for a full disk: there deliveries go on
// as long as the log has room, and checkpoints as far as the file has free pages.
func Attach(db *bbolt.DB, dir string, opts ...Option) (*Store, error) {
	switch {
	case db == nil:
		return nil, fmt.Errorf("%w: attach: nil database", outbox.ErrInvalid)
	case db.NoSync:
		return nil, fmt.Errorf("%w: attach: %s is open with NoSync, so its commits are not durable", outbox.ErrInvalid, db.Path())
	case db.IsReadOnly():
		return nil, fmt.Errorf("%w: attach: %s is open read-only", outbox.ErrInvalid, db.Path())
	}
	s, err := prepare(dir, opts)
	if err != nil {
		return nil, err
	}
	if err := syncDatabase(db); err != nil {
		return nil, errors.Join(err, s.release())
	}
	s.path = db.Path()
	s.db.Store(db)
	err = updateAttached(db, func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketRoot) != nil {
			return nil
		}
		if err := s.opts.noLogWithoutDatabase(dir, db.Path()); err != nil {
			return err
		}
		return createBuckets(tx, newUUID())
	})
	if err == nil {
		err = s.start()
	}
	if err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// prepare makes the folder and takes its lock, before anything in it is looked at
// (R7).
func prepare(dir string, opts []Option) (*Store, error) {
	o := buildOptions(opts)
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("bolt: open %s: %w", dir, err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	return &Store{
		dir: dir, opts: o, lock: lock, overlay: newOverlay(),
		groups: map[outbox.ID]*txGroup{}, listeners: map[*func([]string)]bool{},
		room: make(chan struct{}), stop: make(chan struct{}),
		wakeSync: make(chan struct{}, 1), wakeFlush: make(chan struct{}, 1),
		wakeQuota:   make(chan struct{}, 1),
		wakeCompact: make(chan struct{}, 1),
		wakeWatch:   make(chan struct{}, 1), synced: make(chan synced, maxUntoldSyncs),
	}, nil
}

// start opens the log, recovers, and starts the background.
func (s *Store) start() error {
	var uuid [16]byte
	var version uint32
	var known wal.Position
	err := s.view(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		if version, uuid, err = readFormat(b.meta, s.path); err != nil {
			return err
		}
		st, err := readState(b.meta, s.path)
		known = st.checkpoint
		return err
	})
	if err != nil {
		return err
	}
	logDir := filepath.Join(s.dir, logName)
	has, err := s.opts.hasSegments(logDir)
	if err != nil {
		return fmt.Errorf("bolt: open: %w", err)
	}
	if known > 0 && !has {
		return fmt.Errorf("%w: %s has no log, but the database %s has seen one up to record %d: what was accepted last may be in it",
			outbox.ErrMismatch, logDir, s.path, known)
	}
	if s.behind = version < formatVersion; s.behind {
		if err := s.upgrade(); isFull(err) {
			s.markFull(err)
		} else if err != nil {
			return err
		}
	}
	s.log, err = wal.Open(logDir, wal.Options{
		Store: uuid, SegmentBytes: s.opts.segmentBytes, Logger: s.opts.logger, OnDurable: s.onDurable, OnFailed: s.onFailed, OnSync: s.onSync,
		FS: s.opts.logFS, Lazy: s.opts.sync != Always, Spares: keptSpares,
	})
	if err != nil {
		return s.translate(err)
	}
	if err := s.openReserve(); err != nil {
		return err
	}
	if err := s.recover(context.Background()); err != nil {
		return err
	}
	if err := s.reindexSmall(); err != nil {
		return err
	}
	s.background.Go(s.syncer)
	s.background.Go(s.flusher)
	if s.opts.limited() {
		s.background.Go(s.keeper)
	}
	s.background.Go(s.compactor)
	return nil
}

// ensureDatabase creates a store's database under another name and renames it when
// it is complete: bbolt's own first write is not safe against a power cut (R3).
func (o *options) ensureDatabase(dir, path string) error {
	tmp := path + tmpSuffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bolt: open: %w", err)
	}
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := o.noLogWithoutDatabase(dir, path); err != nil {
		return err
	}
	db, _, err := o.openDatabase(tmp)
	if err != nil {
		return err
	}
	uuid := newUUID()
	err = db.Update(func(tx *bbolt.Tx) error { return createBuckets(tx, uuid) })
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("bolt: create %s: %w", tmp, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("bolt: create %s: %w", path, err)
	}
	return syncDir(dir)
}

// noLogWithoutDatabase refuses to begin a new store beside the log of another: the
// log may hold what was accepted last (P11).
func (o *options) noLogWithoutDatabase(dir, path string) error {
	logDir := filepath.Join(dir, logName)
	has, err := o.hasSegments(logDir)
	if err != nil {
		return fmt.Errorf("bolt: open: %w", err)
	}
	if has {
		return fmt.Errorf("%w: %s holds a log, but its database %s is missing", outbox.ErrMismatch, logDir, path)
	}
	return nil
}

func (o *options) hasSegments(logDir string) (bool, error) {
	files := o.logFS
	if files == nil {
		files = wal.OS
	}
	names, err := files.ReadDir(logDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".wal") {
			return true, err
		}
	}
	return false, err
}

// openDatabase opens or creates a bbolt file. The freelist is a hash map, so that a
// large free space after a backlog does not slow each commit down, and is synced,
// so that opening needs no scan (R33).
func (o *options) openDatabase(path string) (db *bbolt.DB, file *os.File, err error) {
	if err := guardDatabase(path, o.guard); err != nil {
		return nil, nil, err
	}
	defer func() {
		if errors.Is(err, outbox.ErrCorrupt) && file != nil {
			_ = letGo(file) // bbolt has panicked and kept it
		}
	}()
	defer contain(&err, path, debug.SetPanicOnFault(true))
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockWait, FreelistType: bbolt.FreelistMapType, InitialMmapSize: initialMap,
		OpenFile: func(name string, flag int, perm os.FileMode) (_ *os.File, err error) {
			file, err = o.openFile(name, flag, perm)
			return file, err
		},
	})
	switch {
	case err == nil:
		db.AllocSize = growBytes
		return db, file, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, nil, fmt.Errorf("%w: %s is in use", outbox.ErrLocked, path)
	case errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, nil, fmt.Errorf("%w: %s: %w", outbox.ErrVersion, path, err)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum):
		return nil, nil, fmt.Errorf("%w: %s: %w", outbox.ErrCorrupt, path, err)
	}
	return nil, nil, fmt.Errorf("bolt: open %s: %w", path, err)
}

// syncDatabase makes durable what can be read in a database. The process before may
// have been killed between writing a meta page and syncing it (R2). The state that this
// page stands for must not be built on before it is safe: the log would be recycled up
// to a checkpoint that a power cut takes back, and bbolt would write over pages that
// the older meta page still needs.
func syncDatabase(db *bbolt.DB) error {
	if err := db.Sync(); err != nil {
		return fmt.Errorf("bolt: sync %s: %w", db.Path(), err)
	}
	return nil
}

// growBytes is by how much bbolt makes the file grow at a time, where the reserve has
// not done that before; its own 16 MiB are a lot for a small device.
const growBytes = 256 << 10

// initialMap spares a growing database the remaps for which it would have to wait
// until no one reads. It is address space, not memory; 32-bit machines have little
// of it (R37), and on windows bbolt makes the file as large as the map.
var initialMap = func() int {
	if ^uint(0)>>32 == 0 || runtime.GOOS == "windows" {
		return 1 << 20
	}
	return 1 << 30
}()

func newUUID() (uuid [16]byte) {
	crand.Read(uuid[:]) // never fails: it would end the program
	uuid[0] |= 1        // never zero
	return uuid
}

// makeDir makes the folder and its parents, and makes that durable (R1). One that is
// there may have been made by a process that was killed before it had synced that (R2).
func makeDir(dir string) error {
	parent := filepath.Dir(filepath.Clean(dir))
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%w: %s is a file, not a folder", outbox.ErrInvalid, dir)
	case err == nil:
		if err := syncDir(parent); !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil // a parent that only others may read: they have made the folder
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}
