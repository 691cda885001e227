package bolt

import "github.com/goutbox/goutbox/outbox"

// spent copies the Unique keys that are taken after a delivery.
func (r *rebuild) spent() error {
	for p := range r.v.pairs(bucketSpent) {
		if len(p.k) == 0 || p.k[0] != 'k' {
			continue // these are made anew
		}
		if _, err := readSpent(p.k, p.v); err != nil {
			r.Spent++
			continue
		}
		if err := r.keepSpent(p.k, p.v); err != nil {
			return err
		}
	}
	return nil
}

// keepSpent takes over one that is intact.
func (r *rebuild) keepSpent(k, v []byte) error {
	if err := r.room(len(k) + len(v)); err != nil {
		return err
	}
	until, _ := readSpent(k, v)
	w := newWriter(r.b)
	err := w.spend(string(k[1:]), until, outbox.ID(v[8:8+16]))
	r.b.spent = w.b.spent
	return err
}
