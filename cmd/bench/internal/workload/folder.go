package workload

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// copy copies the folder of the open store when nothing is going on there, and does it
// again if something was: a checkpoint that was at work when the last event came.
func (t *Trial) copy(q *opened, to string) error {
	for {
		before, err := q.Counts(t.Ctx)
		if err == nil {
			err = t.pause(t.Settings.Duration / 5)
		}
		if err != nil {
			return err
		}
		now, err := q.Counts(t.Ctx)
		if err == nil && now == before {
			if err = copyFolder(t.Ctx, t.Dir, to); err == nil {
				now, err = q.Counts(t.Ctx)
			}
		}
		if err != nil || now == before {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}

func (t *Trial) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-t.Ctx.Done():
		return t.Ctx.Err()
	}
}

// copyFolder copies files, and ends early with ctx.
func copyFolder(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(filepath.Join(to, rel), 0o700))
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(to, rel))
		if err != nil {
			return err
		}
		for err == nil {
			if err = ctx.Err(); err == nil {
				_, err = io.CopyN(out, in, 64<<20)
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return errors.Join(err, out.Close())
	})
}

// folderSize is how many bytes the files of a folder have.
func folderSize(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

// logSize is how many bytes the log in a folder of store/bolt has; 0 = there is none.
func logSize(dir string) int64 { return folderSize(filepath.Join(dir, "wal")) }
