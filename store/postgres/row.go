package postgres

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/goutbox/goutbox/outbox"
)

// taskColumns is what scanTask reads.
const taskColumns = `t.id::text, t.name, t.key, t.headers, t.content_type, t.payload, t.created_at, t.state, t.attempts,
	t.max_attempts, t.due_at, t.expires_at, t.unique_key, t.unique_for, t.latest_key, t.priority, t.key_policy,
	t.failures, t.reason, t.retry_base, t.retry_max, t.token`

// scanTask reads a task as callers see it.
func scanTask(scan func(...any) error) (t outbox.Task, err error) {
	var (
		id                                    string
		name, key, headers, contentType       []byte
		unique, latest, failures, reason      []byte
		state, priority, policy               int
		expires                               sql.NullTime
		token, uniqueFor, retryBase, retryMax int64
	)
	err = scan(&id, &name, &key, &headers, &contentType, &t.Payload, &t.CreatedAt, &state, &t.Attempts,
		&t.MaxAttempts, &t.DueAt, &expires, &unique, &uniqueFor, &latest, &priority, &policy,
		&failures, &reason, &retryBase, &retryMax, &token)
	if err != nil {
		return t, err
	}
	if t.ID, err = parseID(id); err != nil {
		return t, err
	}
	t.Name, t.Key, t.ContentType = string(name), string(key), string(contentType)
	t.Unique, t.LatestOnly, t.Reason = string(unique), string(latest), outbox.Reason(reason)
	t.State, t.Priority, t.KeyPolicy = outbox.State(state), outbox.Priority(priority), outbox.KeyPolicy(policy)
	t.UniqueFor, t.RetryBase, t.RetryMax = time.Duration(uniqueFor), time.Duration(retryBase), time.Duration(retryMax)
	t.CreatedAt, t.DueAt = t.CreatedAt.UTC(), t.DueAt.UTC()
	if expires.Valid {
		t.ExpiresAt = expires.Time.UTC()
	}
	if t.State == outbox.InFlight {
		t.Token, t.Attempt = uint64(token), t.Attempts+1
	}
	if t.Headers, err = unpackHeaders(headers); err != nil {
		return t, fmt.Errorf("headers of %s: %w", t.ID, err)
	}
	if t.Failures, err = unpackFailures(failures); err != nil {
		return t, fmt.Errorf("%s: %w", t.ID, err)
	}
	return t, nil
}
