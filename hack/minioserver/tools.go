//go:build tools

// Package minioserver pins what the tests of object storage run against. It holds no code of its own: the import keeps
// the server's dependencies in go.mod and go.sum.
package minioserver

import (
	_ "github.com/minio/minio"
)
