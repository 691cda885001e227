package wal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/goutbox/goutbox/wal"
	"github.com/stretchr/testify/require"
)

const benchRecord = 256

// BenchmarkAppend measures producers that append one record at a time and wait for it, beside what the disk can do
// at most: one write of as many bytes as all producers bring, and one fdatasync, into blocks that were written before.
// Both take turns in one run, as the speed of a disk drifts. Metrics:
//
//	events/s      records appended per second
//	records/sync  how many share one sync
//	ratio         events/s over producers × raw syncs/s: 1.0 is a disk that does nothing but useful syncs
//
// Fair terms: closed loop, 256-byte records, the log trims and recycles its segments as in real use.
//
//	go test ./wal -run '^$' -bench Append -benchtime 2s -count 5
func BenchmarkAppend(b *testing.B) {
	for _, producers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) { benchmarkAppend(b, producers) })
	}
}

func benchmarkAppend(b *testing.B, producers int) {
	l, err := wal.Open(filepath.Join(b.TempDir(), "wal"), wal.Options{})
	require.NoError(b, err)
	defer l.Close()
	raw := newRawFile(b, producers*benchRecord)
	produce(b, l, producers, producers) // makes the first segment
	require.NoError(b, l.Prepare())

	const turns = 20
	var logTime, rawTime time.Duration
	rawSyncs, before := 0, l.Stats()
	b.SetBytes(benchRecord)
	b.ReportAllocs()
	b.ResetTimer()
	for turn := range turns {
		n := b.N*(turn+1)/turns - b.N*turn/turns
		start := time.Now()
		produce(b, l, producers, n)
		logTime += time.Since(start)

		b.StopTimer()
		syncs := max(n/producers, 1)
		start = time.Now()
		raw.write(b, syncs)
		rawTime += time.Since(start)
		rawSyncs += syncs
		b.StartTimer()
	}
	b.StopTimer()
	after := l.Stats()
	events := float64(b.N) / logTime.Seconds()
	rawRate := float64(rawSyncs) / rawTime.Seconds()
	b.ReportMetric(events, "events/s")
	b.ReportMetric(float64(after.Records-before.Records)/float64(after.Syncs-before.Syncs), "records/sync")
	b.ReportMetric(events/(float64(producers)*rawRate), "ratio")
}

// produce appends n records through so many goroutines.
func produce(b *testing.B, l *wal.Log, producers, n int) {
	var wg sync.WaitGroup
	for i := range producers {
		share := n*(i+1)/producers - n*i/producers
		wg.Go(func() {
			record := make([]byte, benchRecord)
			for range share {
				p, err := l.Append(context.Background(), record)
				if err != nil {
					b.Error(err)
					return
				}
				if p%4096 == 0 {
					if err := l.Trim(p); err != nil {
						b.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkRaw is the floor alone: one write and one sync of so many records, with nothing around it.
func BenchmarkRaw(b *testing.B) {
	for _, records := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("records=%d", records), func(b *testing.B) {
			raw := newRawFile(b, records*benchRecord)
			b.SetBytes(int64(records * benchRecord))
			b.ResetTimer()
			raw.write(b, b.N)
		})
	}
}

// rawFile is a file whose blocks have been written, to be written again from its beginning to its end.
type rawFile struct {
	file *os.File
	buf  []byte
	off  int64
}

const rawBytes = 4 << 20

func newRawFile(b *testing.B, n int) *rawFile {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	require.NoError(b, err)
	b.Cleanup(func() { f.Close() })
	_, err = f.Write(make([]byte, rawBytes))
	require.NoError(b, err)
	require.NoError(b, f.Sync())
	return &rawFile{file: f, buf: make([]byte, n)}
}

func (r *rawFile) write(b *testing.B, n int) {
	for range n {
		if r.off+int64(len(r.buf)) > rawBytes {
			r.off = 0
		}
		if _, err := r.file.WriteAt(r.buf, r.off); err != nil {
			b.Fatal(err)
		}
		if err := rawSync(r.file); err != nil {
			b.Fatal(err)
		}
		r.off += int64(len(r.buf))
	}
}
