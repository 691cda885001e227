//go:build !linux

package machine

import "os"

// dataSync is the cheapest call that makes overwritten blocks durable.
func dataSync(f *os.File, _ uintptr) error { return f.Sync() }
