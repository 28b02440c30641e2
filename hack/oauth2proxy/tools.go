//go:build tools

// Package oauth2proxy pins what the tests of Ingresses log people in by. It holds no code of its own: the import keeps
// the command's dependencies in go.mod and go.sum.
package oauth2proxy

import (
	_ "github.com/oauth2-proxy/oauth2-proxy/v7"
)
