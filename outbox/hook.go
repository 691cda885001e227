package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// hookTime is how long a hook may take.
const hookTime = 5 * time.Second

// hook is one function of an Observer.
type hook int

const (
	hookEnqueued hook = iota
	hookAttempt
	hookDelivered
	hookRetried
	hookDead
	hookDropped
	hookBuried
	hookGate
	hookSync
	hooks
)

var hookNames = [hooks]string{"Enqueued", "Attempt", "Delivered", "Retried", "Dead", "Dropped", "Buried", "Gate", "Sync"}

// observer is an Observer, and which of its functions have failed.
type observer struct {
	Observer
	off [hooks]atomic.Bool
	log *slog.Logger
}

// call calls one of the functions, in a goroutine of its own: there is no other way to
// go on without one that does not return.
func (o *observer) call(h hook, f func()) {
	if o.off[h].Load() {
		return
	}
	done := make(chan struct{})
	go func() { // ends with the hook
		returned := false
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				o.fails(h, slog.String("error", fmt.Sprintf("panicked: %v", v)), slog.String("stack", string(debug.Stack())))
			} else if !returned {
				o.fails(h, slog.String("error", "ended its goroutine"))
			}
		}()
		f()
		returned = true
	}()
	timer := time.NewTimer(hookTime)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		o.fails(h, slog.String("error", "did not return within "+hookTime.String()))
	}
}

// fails switches a function off.
func (o *observer) fails(h hook, attrs ...slog.Attr) {
	if !o.off[h].Swap(true) {
		o.log.LogAttrs(context.Background(), slog.LevelError, "outbox: observer failed, not called any more",
			append([]slog.Attr{slog.String("hook", hookNames[h])}, attrs...)...)
	}
}
