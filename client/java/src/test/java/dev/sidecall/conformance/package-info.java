/** The runner of the conformance suite: JSON lines in, JSON lines out. */
@NullMarked
package dev.sidecall.conformance;

import org.jspecify.annotations.NullMarked;
