package outbox

import "slices"

// queue holds tasks that are claimed but not begun, in the order they were claimed.
// It keeps the slices that the store has returned, and hands out parts of them: a
// task is not copied on its way to the worker.
type queue struct {
	chunks []chunk // never empty ones
	n      int     // tasks
	bytes  int     // of their payloads
}

// chunk is the rest of one claim.
type chunk struct {
	tasks []Task
	probe uint64
}

func (q *queue) add(tasks []Task, probe uint64) {
	q.chunks = append(q.chunks, chunk{tasks, probe})
	q.n += len(tasks)
	for i := range tasks {
		q.bytes += len(tasks[i].Payload)
	}
}

// take returns the next tasks: most at the most, as many as fit a batch of
// maxBatchBytes, one at least if there is any. They are the caller's.
func (q *queue) take(most int) (tasks []Task, probe uint64) {
	if len(q.chunks) == 0 {
		return nil, 0
	}
	c := &q.chunks[0]
	size, n := len(c.tasks[0].Payload), 1
	for n < min(most, len(c.tasks)) && size+len(c.tasks[n].Payload) <= maxBatchBytes {
		size += len(c.tasks[n].Payload)
		n++
	}
	tasks, probe = c.tasks[:n:n], c.probe
	c.tasks = c.tasks[n:]
	q.n -= n
	q.bytes -= size
	if len(c.tasks) == 0 {
		q.chunks = slices.Delete(q.chunks, 0, 1)
	}
	return tasks, probe
}
