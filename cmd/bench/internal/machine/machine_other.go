//go:build !linux

package machine

import (
	"runtime"
	"time"
)

var syncCall = map[string]string{"darwin": "F_FULLFSYNC", "windows": "FlushFileBuffers"}[runtime.GOOS] + " (os.File.Sync)"

func (m *Machine) describe() {}

// busyTime is not read here.
func busyTime() time.Duration { return 0 }
