package bolt

import (
	"bytes"
	"fmt"

	"github.com/goutbox/goutbox/outbox"
)

// climb sees to it that the keys that a cursor gives rise. Where a page is damaged they
// may not, and whoever goes on later from the last key that he saw would go round for
// ever (P11). The keys are those of one transaction.
type climb struct {
	from []byte // what was sought
	last []byte
}

// to notes the next key of a bucket, or refuses it.
func (c *climb) to(k []byte, bucket []byte) error {
	if bytes.Compare(k, c.from) < 0 || c.last != nil && bytes.Compare(k, c.last) <= 0 {
		return fmt.Errorf("%w: the keys of bucket %s do not rise, at %x: a page is damaged", outbox.ErrCorrupt, bucket, k)
	}
	c.last = k
	return nil
}
