package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
)

const (
	asideSuffix = ".corrupt-"
	maxLost     = 10_000
)

// Salvage makes a damaged store fit for Open again. The store must not be open. What
// [Verify] finds nothing wrong with is left as it is, to the last byte.
//
// It keeps what is provably intact, by checksum over ID and value: what can be reached
// from the database's newest valid meta page, what lies in pages that are neither
// reachable nor free, which a damaged page has cut off, and every record of the log
// that [wal.Salvage] keeps. Values that are not intact, but still there, are kept as
// damaged dead letters. Indexes are made anew. Buckets of the application are copied as
// far as they can be read. Damaged files are never deleted: they stay in the folder, as
// NAME.corrupt-TIME. What was lost is in the result, and in nothing else.
//
// Then the next Open replays what is left of the log, as after a crash. Where records are
// missing, an event may be delivered once more whose outcome they held (P2). Where the
// beginning of the log that the database needs is lost with the database's position, the
// whole log is replayed. Accepted is corrected to what is left, delivered and dropped
// (P5).
//
// Salvage may be cut short at any moment and called again (R28): each file is replaced in
// one step, when the new one is complete and synced. What an earlier call has already
// set aside is then not in the later result. It takes as much room again as what is kept.
//
// It is for folders of [Open] only. Where the database is missing, it refuses with
// [outbox.ErrMismatch], for the folder may be that of an attached store; put an empty
// outbox.db there to keep what the log alone has. It refuses files of a later version
// ([outbox.ErrVersion]) and a log of another store ([outbox.ErrMismatch]). Of the
// options, [WithSegmentBytes] and [WithLogger] count.
func Salvage(dir string, opts ...Option) (s Salvaged, err error) {
	o := buildOptions(opts)
	lock, err := takeStoreLock(&o, dir)
	if err != nil {
		return s, fmt.Errorf("bolt: salvage: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	sv := salvage{o: &o, dir: dir, Salvaged: &s, suffix: asideSuffix + time.Now().UTC().Format("20060102T150405Z")}
	if err := sv.run(); err != nil {
		return s, fmt.Errorf("bolt: salvage %s: %w", dir, err)
	}
	return s, nil
}

// salvage is one Salvage under way.
type salvage struct {
	*Salvaged
	o      *options
	dir    string
	suffix string
	v      *verifier
	first  wal.Position // of the log, as it is now,
	next   wal.Position // and what its next record gets
	logOf  [16]byte     // the store that the log belongs to
	lost   map[outbox.ID]bool
}

func (s *salvage) run() error {
	v, err := s.o.verify(s.dir)
	if err != nil {
		return err
	}
	s.Found, s.Waiting, s.Dead = *v.Report, v.Report.Waiting, v.Report.Dead
	file := v.file
	v.close()
	if v.OK() {
		return nil
	}
	if file == nil {
		return fmt.Errorf("%w: there is no %s; see the comment of Salvage", outbox.ErrMismatch, databaseName)
	}
	for _, f := range v.Findings {
		if errors.Is(f.Err, outbox.ErrVersion) {
			return f.Err
		}
	}
	if err := s.salvageLog(v.uuid); err != nil {
		return err
	}
	if err := s.stage("log"); err != nil {
		return err
	}
	if s.v, err = s.o.verify(s.dir); err != nil {
		return err
	}
	defer s.v.close()
	if s.v.OK() {
		s.Waiting, s.Dead = s.v.Report.Waiting, s.v.Report.Dead
		return nil
	}
	if err := s.salvageDatabase(); err != nil {
		return err
	}
	return s.check()
}

// check makes sure that the store is whole now.
func (s *salvage) check() error {
	v, err := s.o.verify(s.dir)
	if err != nil {
		return err
	}
	v.close()
	if !v.OK() {
		return fmt.Errorf("%w: it is still damaged:\n%s", outbox.ErrCorrupt, v.Report.String())
	}
	s.Waiting, s.Dead = v.Report.Waiting, v.Report.Dead
	return nil
}

func (s *salvage) stage(name string) error {
	if s.o.stage == nil {
		return nil
	}
	return s.o.stage(name)
}

// salvageLog has the log salvaged, if there is one.
func (s *salvage) salvageLog(uuid [16]byte) error {
	logDir := filepath.Join(s.dir, logName)
	s.first, s.next, s.logOf = 1, 1, uuid
	has, err := s.o.hasSegments(logDir)
	if err != nil || !has {
		return err
	}
	report, err := wal.Salvage(logDir, wal.Options{Store: uuid, SegmentBytes: s.o.segmentBytes, FS: s.o.logFS, Logger: s.o.logger}, s.suffix)
	for _, p := range logErrors {
		if errors.Is(err, p.from) {
			return fmt.Errorf("%w: %w", p.to, err)
		}
	}
	if errors.Is(err, wal.ErrNoSpace) {
		return fmt.Errorf("%w: %w", outbox.ErrDiskFull, err)
	}
	if err != nil {
		return err
	}
	s.first, s.next, s.logOf = report.First, report.Next, report.Store
	for _, f := range report.Findings {
		if f.From > 0 {
			s.LostRecords = append(s.LostRecords, Range{f.From, f.To})
		}
	}
	if !report.Damaged() {
		return nil
	}
	files := s.o.logFS
	if files == nil {
		files = wal.OS
	}
	names, err := files.ReadDir(logDir)
	for _, name := range names {
		if strings.Contains(name, s.suffix) {
			s.Aside = append(s.Aside, filepath.Join(logName, name))
		}
	}
	return err
}

// salvageDatabase puts a new database together and then in the place of the old one,
// which keeps another name. At no moment is there none: Open would take that for
// another store's folder.
func (s *salvage) salvageDatabase() error {
	path := filepath.Join(s.dir, databaseName)
	tmp := path + tmpSuffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.build(tmp); err != nil {
		if isNoSpace(err) {
			err = fmt.Errorf("%w: %w", outbox.ErrDiskFull, err)
		}
		return errors.Join(err, os.Remove(tmp))
	}
	if err := s.stage("built"); err != nil {
		return err
	}
	name, err := setAside(path, s.suffix)
	if err != nil {
		return err
	}
	s.Aside = append(s.Aside, filepath.Base(name))
	if err := syncDir(s.dir); err != nil {
		return err
	}
	if err := s.stage("aside"); err != nil {
		return err
	}
	s.v.close() // some systems do not replace a file that is open
	s.v.file = nil
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	return s.stage("done")
}

// setAside gives a file a second name, or makes a copy where that cannot be. One that
// has such a name, from a Salvage that was cut short, keeps it.
func setAside(path, suffix string) (name string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), databaseName+asideSuffix+"*"))
	if err != nil { // a folder whose name is a pattern: a second name more does no harm
		names = nil
	}
	for _, name := range names {
		if other, err := os.Stat(name); err == nil && os.SameFile(info, other) {
			return name, nil
		}
	}
	for name = path + suffix; ; name += "+" {
		if err := os.Link(path, name); err == nil {
			return name, nil
		} else if !errors.Is(err, fs.ErrExist) {
			return name, copyAside(path, name)
		}
	}
}

func copyAside(path, name string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Sync(), to.Close())
}
