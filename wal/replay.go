package wal

import "iter"

// Replay returns the durable records from this position on, in order, up to the newest one that is durable when the
// iteration begins. What has been trimmed is left out: compare with First. The Data of a record is valid until the next
// step. An error ends the iteration; it is ErrCorrupt when a record that must be there is not.
//
// Memory is bounded by the largest batch. Append and all else may go on meanwhile, also within the loop; Trim leaves the
// segment alone that the iteration is in, and all after it.
func (l *Log) Replay(from Position) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		part := part{next: max(from, 1), end: l.Durable()}
		for {
			ok, err := l.enter(&part)
			if err == nil && !ok {
				return
			}
			if err == nil {
				ok, err = l.replayPart(&part, yield)
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !ok {
				return
			}
		}
	}
}

// part is what an iteration reads of one segment.
type part struct {
	number uint64   // of the segment
	next   Position // the next record to yield
	last   Position // the last one of this segment
	end    Position // the last one of the iteration
}

// enter finds the segment that has the next record, and marks it as being read. It reports false at the end.
func (l *Log) enter(p *part) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, ErrClosed
	}
	if p.next > p.end {
		return false, nil
	}
	i := 0
	p.last = p.end
	for ; i+1 < len(l.segments) && l.segments[i+1].base <= p.next; i++ {
	}
	if i+1 < len(l.segments) {
		p.last = min(p.end, l.segments[i+1].base-1)
	}
	l.segments[i].readers++
	p.number = l.segments[i].number
	return true, nil
}

// leave takes the mark away. The segment is still in the list, and numbers have no gaps.
func (l *Log) leave(p *part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segments[p.number-l.segments[0].number].readers--
}

// replayPart yields the records of one segment. It reports false when the consumer has had enough.
func (l *Log) replayPart(p *part, yield func(Record, error) bool) (more bool, err error) {
	defer l.leave(p)
	s, err := l.openScanner(p.number)
	if err != nil {
		return false, err
	}
	defer s.file.Close()
	for s.last < p.last {
		g, payload, ok, err := s.next()
		if err != nil {
			return false, err
		}
		if !ok {
			return false, corrupt(s.name, s.off, "record %d is damaged or missing", s.last+1)
		}
		for at := g.first; len(payload) > 0; at++ {
			var data []byte
			data, payload, _ = cutRecord(payload) // the group is intact: its records fill the payload
			if at < p.next {
				continue // also those that roll has copied from the segment before
			}
			p.next = at + 1
			if !yield(Record{Position: at, Data: data}, nil) {
				return false, nil
			}
		}
	}
	p.next = p.last + 1
	return true, nil
}
