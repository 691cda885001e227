package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram is an HdrHistogram of durations from 100 ns to 10 minutes with three
// digits, safe for concurrent use. [Latency] is coarser and cheaper: it is for closed
// loops, which go as fast as they can.
type Histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

// NewHistogram returns an empty histogram.
func NewHistogram() *Histogram {
	return &Histogram{h: hdrhistogram.New(100, int64(10*time.Minute), 3)}
}

// Add notes one duration.
func (h *Histogram) Add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.h.RecordValue(min(max(int64(d), 0), h.h.HighestTrackableValue()))
}

// Quantile returns the duration that a share q of all, 0 to 1, does not exceed; 0 if
// there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Duration(h.h.ValueAtQuantile(100 * q))
}

// Max returns the longest.
func (h *Histogram) Max() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Duration(h.h.Max())
}

// Count returns how many there are.
func (h *Histogram) Count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.h.TotalCount()
}
