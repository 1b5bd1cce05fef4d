/** Parts that the packages of the client share. Not for users: it changes without notice. */
@NullMarked
package dev.sidecall.internal;

import org.jspecify.annotations.NullMarked;
