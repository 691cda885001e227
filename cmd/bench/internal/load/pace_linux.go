package load

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pacer waits for moments more exactly than a timer of Go, which on an idle Linux is
// late by up to a millisecond. It belongs to the goroutine that made it, and keeps its
// thread until that goroutine ends.
type pacer struct{}

func newPacer() pacer {
	runtime.LockOSThread() // for ever: a thread with this slack is not for others
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return pacer{}
}

func (pacer) sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // early after a signal: the caller looks at the clock
}
