import Primitives

/// Bounds and times of a ``Dialer``.
public struct DialLimits: Hashable, Sendable {
    /// The first pause between dials; it doubles when all of a peer's addresses have failed, up to `retryMax`, each time varied
    /// by a quarter so that peers do not move in step.
    public var retryFirst: Duration = .milliseconds(250)
    public var retryMax: Duration = .seconds(3)
    /// Dialling a wanted peer ends after this.
    public var giveUp: Duration = .seconds(30)
    /// How long a dial waits for another connection of the same peer that is further.
    public var grace: Duration = .seconds(1)

    /// Peers wanted at once, and peers whose addresses are remembered.
    public var wanted = 512
    /// Dials under way.
    public var inFlight = 64

    /// Of endpoints that others told of: dials under way, and dials that lead nowhere, at once and a second. What leads to a
    /// member costs nothing.
    public var hearsayInFlight = 32
    public var fruitlessBurst = 128.0
    public var fruitlessPerSecond = 1.0
    /// Endpoints kept of one teller that wait for their turn, and tellers.
    public var endpointsOfTeller = 64
    public var tellers = 32
    /// Endpoints of one address that wait or fail at a time: of a public one, and of one in a private network, where many
    /// peers may be one machine's.
    public var endpointsOfAddress = 12
    public var endpointsOfPrivateAddress = 64
    /// So often an endpoint is tried in a row; then it rests, each time twice as long.
    public var tries = 4
    public var restFirst: Duration = .seconds(30)
    public var restMax: Duration = .seconds(600)
    /// Endpoints that rest and are remembered.
    public var resting = 1_024

    public init() {}
}
