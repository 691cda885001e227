package machine

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Raw measures the ceiling: how often the disk can take a write of some bytes and
// make it durable. Nothing is around it: one goroutine, one pwrite into blocks that
// were written before, one sync, and again.
type Raw struct {
	file *os.File
	fd   uintptr
	buf  []byte
	off  int64
	size int64
}

// NewRaw writes a file of a few MiB, so that its blocks are there and written, and
// syncs it. Each write of the measurement is data.
func NewRaw(path string, data []byte) (r *Raw, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	r = &Raw{file: f, fd: f.Fd(), buf: data}
	for r.size < 4<<20 || r.size < 4*int64(len(data)) {
		n, err := f.Write(data)
		if err != nil {
			return nil, fmt.Errorf("raw file: %w", err)
		}
		r.size += int64(n)
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("raw file: %w", err)
	}
	return r, nil
}

// Close closes the file, and leaves it to whoever removes its folder.
func (r *Raw) Close() error { return r.file.Close() }

// Syncs is a number of syncs and the time they took.
type Syncs struct {
	N    uint64
	Took time.Duration
}

// Add adds two measurements.
func (s Syncs) Add(o Syncs) Syncs { return Syncs{s.N + o.N, s.Took + o.Took} }

// PerSecond is the rate.
func (s Syncs) PerSecond() float64 { return float64(s.N) / s.Took.Seconds() }

// For writes and syncs for so long.
func (r *Raw) For(ctx context.Context, d time.Duration) (s Syncs, err error) {
	start := time.Now()
	for s.Took < d || s.N == 0 {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		if err := r.One(); err != nil {
			return s, err
		}
		s.N++
		s.Took = time.Since(start)
	}
	return s, nil
}

// One writes and syncs once.
func (r *Raw) One() error {
	if r.off+int64(len(r.buf)) > r.size {
		r.off = 0
	}
	if _, err := r.file.WriteAt(r.buf, r.off); err != nil {
		return fmt.Errorf("raw file: %w", err)
	}
	if err := dataSync(r.file, r.fd); err != nil {
		return fmt.Errorf("raw file: %w", err)
	}
	r.off += int64(len(r.buf))
	return nil
}
