//go:build tools

// Package controlplane pins what the local test cluster is built from. It holds no code of its own:
// the imports keep the commands' dependencies in go.mod and go.sum.
package controlplane

import (
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
