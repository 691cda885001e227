package machine

import (
	"runtime"
	"runtime/metrics"
	"time"
)

// Meter reads what the process has used so far.
type Meter struct {
	source string
	disk   func() (uint64, bool) // nil: no counter is readable
}

// NewMeter returns a meter for a program that writes to this machine's folder.
func (m Machine) NewMeter() *Meter {
	source, disk := diskSource(m.Device)
	return &Meter{source, disk}
}

// DiskSource says where Reading.Disk comes from; "" if there is no counter, and the
// bytes have to be those that a store says it has written.
func (m *Meter) DiskSource() string { return m.source }

// Reading is a state of the meter, or the difference of two.
type Reading struct {
	At     time.Time
	Took   time.Duration // of a difference
	Disk   uint64        // bytes that went to the device
	HasIO  bool
	CPU    time.Duration // of all threads, in user and kernel
	Busy   time.Duration // of all processors, with whatever program; 0 = unknown
	Allocs uint64        // objects allocated on the heap
	Heap   uint64        // bytes allocated on the heap
}

// Read reads all counters.
func (m *Meter) Read() (r Reading) {
	s := [...]metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s[:])
	r.Allocs, r.Heap, r.CPU = s[0].Value.Uint64(), s[1].Value.Uint64(), cpuTime()
	if m.disk != nil {
		r.Disk, r.HasIO = m.disk()
	}
	r.At, r.Busy = time.Now(), busyTime()
	return r
}

// Since returns what has been used since an earlier reading.
func (m *Meter) Since(before Reading) Reading {
	now := m.Read()
	return Reading{
		At: now.At, Took: now.At.Sub(before.At), Disk: now.Disk - before.Disk, HasIO: now.HasIO && before.HasIO,
		CPU: now.CPU - before.CPU, Busy: now.Busy - before.Busy, Allocs: now.Allocs - before.Allocs, Heap: now.Heap - before.Heap,
	}
}

// Others is which share of all processors, 0 to 1, other programs and other virtual
// machines on the same hardware have used; false if that is not known.
func (r Reading) Others() (float64, bool) {
	if r.Busy == 0 || r.CPU == 0 {
		return 0, false
	}
	all := r.Took * time.Duration(runtime.NumCPU())
	return min(max((r.Busy-r.CPU).Seconds()/all.Seconds(), 0), 1), true
}
