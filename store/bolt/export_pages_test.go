package bolt

import (
	"os"
	"strings"
)

// WithGuard sets how many pages of the database Open looks at before bbolt does.
func WithGuard(pages int) Option {
	return func(o *options) { o.guard = pages }
}

// Jam does what bbolt does when it panics in the middle of ending a transaction.
func (s *Store) Jam() (err error) {
	defer s.jam(&err, false)
	if _, err = s.db.Load().Begin(true); err != nil {
		return err
	}
	panic("as bbolt does")
}

// WalkFile reads a bbolt file page by page: it returns what it holds, by path, and
// what is wrong with it.
func WalkFile(path string) (pairs map[string]string, wrong []error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	p, err := newPages(f, info.Size())
	if err != nil {
		return nil, nil, err
	}
	if err := p.guard(guardPages); err != nil {
		wrong = append(wrong, err)
	}
	pairs = map[string]string{}
	w := p.newWalk()
	w.wrong = func(err error) { wrong = append(wrong, err) }
	w.bucket = func(path [][]byte, _ bucketRef) bool { pairs[joined(path)] = "bucket"; return true }
	w.pair = func(path [][]byte, k, v []byte, _ uint64, _ int64) bool {
		pairs[joined(append(path[:len(path):len(path)], k))] = string(v)
		return true
	}
	w.all()
	w.freelist(true)
	return pairs, wrong, nil
}

func joined(path [][]byte) string {
	var b strings.Builder
	for _, name := range path {
		b.WriteByte('/')
		b.Write(name)
	}
	return b.String()
}
