module github.com/goutbox/goutbox/cmd/bench

go 1.25.0

require (
	github.com/HdrHistogram/hdrhistogram-go v1.4.0
	github.com/goutbox/goutbox v0.0.0
	go.etcd.io/bbolt v1.5.0
	golang.org/x/sys v0.45.0
)

require github.com/oklog/ulid/v2 v2.1.2 // indirect

replace github.com/goutbox/goutbox => ../..
