package bolt

import (
	"errors"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// advise adds to an error of opening what can be done about it. Who reads it has a
// device that does not start, and perhaps no documentation (P11).
func advise(err error, dir string) error {
	if errors.Is(err, outbox.ErrCorrupt) || errors.Is(err, outbox.ErrMismatch) {
		return fmt.Errorf("%w (nothing was changed in %s; bolt.Verify lists all that is wrong there, bolt.Salvage keeps what is intact)", err, dir)
	}
	return err
}
