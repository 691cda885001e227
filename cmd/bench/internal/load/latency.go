package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Latency is a histogram of durations. Below 128 ns it is exact, above it each
// bucket is 1/64 of a power of two wide, so a quantile is at most 1.6 % too high.
// It is safe for concurrent use.
type Latency struct {
	buckets [34 * fine]atomic.Uint32 // up to 9 minutes
}

const fine = 64

// bucketOf returns the index of the bucket that d falls into.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 2*fine {
		return int(v)
	}
	shift := bits.Len64(v) - 7 // v>>shift is in [fine, 2*fine)
	return min(shift*fine+int(v>>shift), len(Latency{}.buckets)-1)
}

// upper returns the longest duration of a bucket.
func upper(bucket int) time.Duration {
	if bucket < 2*fine {
		return time.Duration(bucket)
	}
	shift := bucket/fine - 1
	return time.Duration(bucket%fine+fine+1)<<shift - 1
}

// Add notes one duration.
func (l *Latency) Add(d time.Duration) { l.buckets[bucketOf(d)].Add(1) }

// Quantile returns the duration that a share q of all, 0 to 1, does not exceed,
// over several histograms together; 0 if they are empty.
func Quantile(q float64, all ...*Latency) time.Duration {
	var total uint64
	sum := make([]uint64, len(Latency{}.buckets))
	for _, l := range all {
		for i := range sum {
			n := uint64(l.buckets[i].Load())
			sum[i] += n
			total += n
		}
	}
	if total == 0 {
		return 0
	}
	rank := max(uint64(q*float64(total)+0.5), 1)
	for i, n := range sum {
		if n >= rank {
			return upper(i)
		}
		rank -= n
	}
	return upper(len(sum) - 1)
}
