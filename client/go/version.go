package sidecall

// Version is the version of this client, equal to that of the contract it speaks.
const Version = "0.1.0"
