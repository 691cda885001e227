//go:build !linux

package machine

import "errors"

// DropCaches has the system forget the files that it keeps in memory, where it can.
func DropCaches() error { return errors.ErrUnsupported }
