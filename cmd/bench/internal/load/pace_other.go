//go:build !linux

package load

import "time"

// pacer waits for moments, as exactly as Go's timers do.
type pacer struct{}

func newPacer() pacer { return pacer{} }

func (pacer) sleep(d time.Duration) { time.Sleep(d) }
