package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// What the advisory locks of a store are about. They live in a space that the whole
// database shares, so each is the hash of the store's name, the kind and the text.
const (
	lockMigrate = "migrate"
	lockNames   = "names"  // all names together: shared with a few of them, alone with very many
	lockKey     = "key"    // one Key, while an event of it is being accepted
	lockUnique  = "unique" // one Unique key
	lockLatest  = "latest" // one LatestOnly key
	lockQuota   = "quota"
	lockSweep   = "sweep"
	lockFold    = "fold"
)

// maxLocks is how many locks one transaction takes; the server has room for some thousand
// of all together. Who needs more takes one for all names.
const maxLocks = 500

// lockNumber is the number of a lock. Two texts that share one wait for each other now and
// then, and that is all.
func (s *Store) lockNumber(kind, text string) int64 {
	h := sha256.Sum256([]byte(s.names.lockSpace() + "\x00" + kind + "\x00" + text))
	return int64(binary.BigEndian.Uint64(h[:]))
}

// lockAll takes the locks with these numbers until the transaction ends, the lowest first,
// so that two transactions never wait for each other crosswise. It is a statement of its own: what comes
// after it sees all that those have committed for whom it waited.
func (w *work) lockAll(ctx context.Context, numbers []int64) error {
	if len(numbers) == 0 {
		return nil
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	all := w.s.lockNumber(lockNames, "")
	if len(numbers) > maxLocks {
		return w.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, all)
	}
	var l list
	for _, n := range numbers {
		l.int(n)
	}
	return w.exec(ctx, `SELECT pg_advisory_xact_lock_shared($1), (SELECT count(pg_advisory_xact_lock(n)) FROM unnest($2::bigint[]) n)`, all, l.String())
}

// tryLock takes a lock that only transactions of the store's own hold, if it is free.
func (w *work) tryLock(ctx context.Context, kind string) (got bool, err error) {
	err = w.row(ctx, `SELECT pg_try_advisory_xact_lock($1)`, []any{w.s.lockNumber(kind, "")}, &got)
	return got, err
}
