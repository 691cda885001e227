//go:build !unix

package machine

import "time"

// cpuTime is not read here.
func cpuTime() time.Duration { return 0 }
