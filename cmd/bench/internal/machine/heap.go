package machine

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// Heap is what the heap of the process was like over a time.
type Heap struct {
	Live uint64 // most that a collection has left
	Peak uint64 // most there was, garbage that waited for a collection included
}

// Collected collects garbage and returns what is left. Twice, for what pools keep over
// one collection.
func Collected() uint64 {
	runtime.GC()
	runtime.GC()
	return readHeap().Live
}

func readHeap() Heap {
	s := [...]metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s[:])
	return Heap{Live: s[0].Value.Uint64(), Peak: s[1].Value.Uint64()}
}

// WatchHeap samples the heap every two milliseconds, in a goroutine that ends with
// stop.
func WatchHeap() (stop func() Heap) {
	var once sync.Once
	var h Heap
	quit, ended := make(chan struct{}), make(chan struct{})
	sample := func() {
		now := readHeap()
		h.Live, h.Peak = max(h.Live, now.Live), max(h.Peak, now.Peak)
	}
	go func() {
		defer close(ended)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			sample()
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return func() Heap {
		once.Do(func() {
			close(quit)
			<-ended
			sample()
		})
		return h
	}
}
