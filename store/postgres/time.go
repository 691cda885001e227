package postgres

import (
	"context"
	"time"
)

// now reads the store's clock, which is that of the database server: instances need not agree
// on the time. It is a wall clock, so it is to be kept right by small steps, as servers do (P12).
func (w *work) now(ctx context.Context) (t time.Time, err error) {
	err = w.row(ctx, `SELECT clock_timestamp()`, nil, &t)
	return t.UTC(), err
}
