package sidecall

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const (
	maxNameLength = 64
	minHashLength = 8
	speakerPrefix = "functions."
)

// ErrNoSuchTool is returned for the name of a tool that is not among those given.
var ErrNoSuchTool = errors.New("sidecall: no such tool")

// ToolNames maps names of tools to names that a provider accepts for them, there and back.
//
// An accepted name stays as it is. In others each refused character becomes "_"; where the
// outcome is too long or not unique, a short hash of the name ends it. The order of the names
// does not matter.
type ToolNames struct {
	toProvider map[string]string
	toTool     map[string]string
}

// NewToolNames maps the names of tools.
func NewToolNames(tools []*Tool) *ToolNames {
	var names []string
	for _, tool := range tools {
		names = append(names, tool.GetName())
	}
	slices.Sort(names)
	return mapNames(slices.Compact(names))
}

func mapNames(known []string) *ToolNames {
	accepted := regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	n := &ToolNames{toProvider: map[string]string{}, toTool: map[string]string{}}
	wanted := map[string]int{}
	var others []string
	for _, name := range known {
		if accepted.MatchString(name) {
			n.add(name, name)
		} else {
			others = append(others, name)
			wanted[plainName(name)]++
		}
	}
	var hashed []string
	asked := maps.Clone(n.toTool)
	for _, name := range others {
		plain := plainName(name)
		if _, taken := asked[plain]; !taken && wanted[plain] == 1 && accepted.MatchString(plain) {
			n.add(name, plain)
		} else {
			hashed = append(hashed, name)
		}
	}
	for _, name := range hashed {
		n.add(name, n.hashedName(name))
	}
	return n
}

func (n *ToolNames) add(tool, provider string) {
	n.toProvider[tool], n.toTool[provider] = provider, tool
}

// ToProvider returns the provider's name of a tool, or [ErrNoSuchTool].
func (n *ToolNames) ToProvider(name string) (string, error) {
	provider, ok := n.toProvider[name]
	if !ok {
		return "", fmt.Errorf("%w: %q", ErrNoSuchTool, name)
	}
	return provider, nil
}

// ToTool returns the tool that a model means; a name that nobody knows stays as it is.
func (n *ToolNames) ToTool(name string) string {
	if tool, ok := n.toTool[name]; ok {
		return tool
	}
	bare, spoken := strings.CutPrefix(name, speakerPrefix)
	if !spoken || n.Has(name) {
		return name
	}
	if tool, ok := n.toTool[bare]; ok {
		return tool
	}
	if n.Has(bare) {
		return bare
	}
	return name
}

// Has tells whether there is a tool of this name.
func (n *ToolNames) Has(name string) bool {
	_, ok := n.toProvider[name]
	return ok
}

// ProviderNames returns all names that the provider is given, sorted.
func (n *ToolNames) ProviderNames() []string { return slices.Sorted(maps.Keys(n.toTool)) }

func (n *ToolNames) hashedName(name string) string {
	digest := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(digest[:])
	plain := plainName(name)
	for length := minHashLength; ; length++ {
		candidate := plain[:min(len(plain), maxNameLength-length-1)] + "_" + hash[:length]
		if _, taken := n.toTool[candidate]; !taken || length == maxNameLength-1 {
			return candidate
		}
	}
}

func plainName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}
