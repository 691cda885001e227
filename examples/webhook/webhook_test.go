package main

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStory(t *testing.T) {
	var out, errs bytes.Buffer
	require.Zero(t, run(nil, strings.NewReader(""), &out, &errs), "%s%s", &out, &errs)
	require.Contains(t, out.String(), "Accepted 10, delivered 10; the receiver has 10 different webhooks")
}

// The signature is that of the specification's own example.
func TestSign_Specification(t *testing.T) {
	key, err := parseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	got := key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got)
}

func TestVerify(t *testing.T) {
	key, err := parseSecret(demoSecret)
	require.NoError(t, err)
	now := time.Unix(1_700_000_000, 0)
	body := []byte(`{"a":1}`)
	good := func() http.Header {
		h := http.Header{}
		h.Set(headerID, "id-1")
		h.Set(headerTimestamp, "1700000000")
		h.Set(headerSignature, "v1,other "+key.sign("id-1", now, body))
		return h
	}
	require.NoError(t, key.verify(good(), body, now.Add(4*time.Minute)))
	require.ErrorContains(t, key.verify(good(), []byte(`{"a":2}`), now), "no signature")
	require.ErrorContains(t, key.verify(good(), body, now.Add(6*time.Minute)), "6m0s away")
	require.ErrorContains(t, key.verify(good(), body, now.Add(-6*time.Minute)), "away")
	h := good()
	h.Set(headerID, "id-2")
	require.Error(t, key.verify(h, body, now))
	h.Del(headerTimestamp)
	require.ErrorContains(t, key.verify(h, body, now), "no timestamp")
}

func TestParseSecret(t *testing.T) {
	for _, s := range []string{"", "whsec_", "whsec_!", "secret", base64.StdEncoding.EncodeToString(make([]byte, 32)),
		secretPrefix + base64.StdEncoding.EncodeToString(make([]byte, 23))} {
		_, err := parseSecret(s)
		require.Error(t, err, s)
	}
}

func TestRun_Usage(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, 2, run([]string{"-url", "http://x", "-secret", "short"}, strings.NewReader(""), &out, &errs))
	require.Contains(t, errs.String(), "whsec_")
	require.Equal(t, 2, run([]string{"-nosuch"}, strings.NewReader(""), &out, &errs))
}

// What comes on stdin is delivered, and a line that is none is an error that says which.
func TestForward(t *testing.T) {
	key, err := parseSecret(demoSecret)
	require.NoError(t, err)
	r, err := newReceiver(key)
	require.NoError(t, err)
	defer r.close()
	r.set(func(string) int { return http.StatusNoContent })
	dir := t.TempDir()
	args := []string{"-dir", dir, "-url", r.url(), "-secret", demoSecret}
	var out, errs bytes.Buffer
	require.Zero(t, run(args, strings.NewReader("a 1\n\nb {\"x\":2}\n"), &out, &errs), &errs)
	seen, forged := r.result()
	require.Equal(t, 2, seen)
	require.Zero(t, forged)
	require.Equal(t, 1, run(args, strings.NewReader("a 1\nb {\n"), &out, &errs))
	require.Contains(t, errs.String(), "line 2")
}
