/** An application's own functions as tools of the sidecar. */
@NullMarked
package dev.sidecall.host;

import org.jspecify.annotations.NullMarked;
