package outbox

import (
	"slices"
	"time"
)

// queue holds tasks that are claimed but not begun, in the order they were claimed.
// It keeps the slices that the store has returned, and hands out parts of them: a
// task is not copied on its way to the worker, unless a batch is made of several
// claims.
type queue struct {
	chunks []chunk // never empty ones
	n      int     // tasks
	bytes  int     // of their payloads
}

// chunk is the rest of one claim.
type chunk struct {
	tasks []Task
	probe uint64
	at    time.Time // when it was claimed
}

func (q *queue) add(tasks []Task, probe uint64, now time.Time) {
	q.chunks = append(q.chunks, chunk{tasks, probe, now})
	q.n += len(tasks)
	for i := range tasks {
		q.bytes += len(tasks[i].Payload)
	}
}

// take returns the next tasks: most at the most, with so many bytes of payload at the
// most, but one at least if there is any. A probe goes alone, and so does a task that
// alone says so of; nil: none. They are the caller's.
func (q *queue) take(most, bytes int, alone func(ID) bool) (tasks []Task, probe uint64) {
	if len(q.chunks) == 0 {
		return nil, 0
	}
	used, size := 0, 0 // chunks, bytes
	for full := false; !full && used < len(q.chunks) && len(tasks) < most; {
		c := &q.chunks[used]
		if used > 0 && (probe != 0 || c.probe != 0) {
			break
		}
		n := 0
		for n < min(most-len(tasks), len(c.tasks)) {
			next := len(c.tasks[n].Payload)
			if full = len(tasks)+n > 0 && size+next > bytes; full {
				break
			}
			lone := alone != nil && alone(c.tasks[n].ID)
			if full = lone && len(tasks)+n > 0; full {
				break
			}
			size += next
			n++
			if full = lone; full {
				break
			}
		}
		if tasks == nil {
			tasks, probe = c.tasks[:n:n], c.probe
		} else {
			tasks = append(tasks, c.tasks[:n]...)
			clear(c.tasks[:n]) // the copy alone is to hold the payloads
		}
		if c.tasks = c.tasks[n:]; len(c.tasks) > 0 {
			break
		}
		used++
	}
	q.chunks = slices.Delete(q.chunks, 0, used)
	q.n -= len(tasks)
	q.bytes -= size
	return tasks, probe
}
