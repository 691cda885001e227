package bolt

import (
	"fmt"
	"runtime"

	"github.com/goutbox/goutbox/outbox"
)

// mapLimit is how large bbolt can map a file on this machine, 0 if that is more than
// any disk (R37). What bbolt allows is the most that an int holds, and half of it on
// mips; the largest map must still leave room for what it counts on top.
var mapLimit = func() int64 {
	switch runtime.GOARCH {
	case "mips", "mipsle":
		return 1<<30 - 1<<24
	}
	if ^uint(0)>>32 == 0 {
		return 1<<31 - 1<<24
	}
	return 0
}()

// defaultMaxDatabase leaves most of a 32-bit address space to the program.
var defaultMaxDatabase = func() int64 {
	if mapLimit > 0 {
		return 512 << 20
	}
	return 0
}()

// WithMaxDatabaseBytes sets how large outbox.db may become. When its live data,
// without a reserve at the end, has filled that, nothing more is accepted
// ([outbox.ErrFull]) until something is delivered or deleted; everything else goes on.
//
// The default is no bound, but 512 MiB on 32-bit machines, where the file has to fit
// into the address space beside the program. There it can be raised up to nearly
// 2 GiB, 1 GiB on mips; Open returns [outbox.ErrInvalid] for more, and for less than
// four times the reserve of [WithSegmentBytes]. An attached database has the bound of
// whoever opened it.
func WithMaxDatabaseBytes(n int64) Option {
	return func(o *options) {
		if n > 0 {
			o.maxDatabase = n
		}
	}
}

func (o *options) check() error {
	least := 4 * o.reserveBytes
	switch {
	case mapLimit > 0 && o.maxDatabase > mapLimit:
		return fmt.Errorf("%w: a database of %d bytes can not be mapped on %s: %d at most", outbox.ErrInvalid, o.maxDatabase, runtime.GOARCH, mapLimit)
	case o.maxDatabase > 0 && o.maxDatabase < least:
		return fmt.Errorf("%w: a database of %d bytes is too small: %d at least", outbox.ErrInvalid, o.maxDatabase, least)
	}
	return nil
}
