public import Pools
public import Primitives
import Wire

/// Applies for membership with an invite: asks the nodes that it names, one after the other, until one of them answers. Any member lets
/// others in, so whichever is there will do.
public struct PoolApplication: Core {
    public enum Effect: Sendable {
        /// Open a secure connection to whoever is there.
        case dial(ConnectionID, Endpoint)
        case write(ConnectionID, [UInt8])
        case close(ConnectionID)
        case ended(Result<PoolGrant, Failure>)
    }
    public enum Failure: Error, Hashable, Sendable {
        case refused(PoolRefusal)
        /// Nobody has answered in time; why the last one did not.
        case unanswered(String)
    }
    private enum Phase: Sendable {
        case pausing
        case dialing(ConnectionID)
        case asking(ConnectionID, PeerID)
        case over
    }
    private let credential: Credential
    private let endpoints: [Endpoint]
    private let deadline: Instant
    private let dialsMax: UInt64
    private var phase = Phase.pausing
    private var parser = FrameParser()
    private var dials: UInt64 = 0
    private var until: Instant
    private var problem = "nobody was there"
    private var effects = EffectQueue<Effect>()
    static let patience = Duration.seconds(5)
    static let pause = Duration.milliseconds(500)

    /// - Parameters:
    ///   - endpoints: at least one.
    ///   - limit: how long it goes on.
    ///   - rounds: how often everybody is asked at most.
    public init(
        _ credential: Credential, at endpoints: [Endpoint], limit: Duration, rounds: Int = .max, now: Instant
    ) {
        precondition(!endpoints.isEmpty, "somebody has to be asked")
        (self.credential, self.endpoints) = (credential, endpoints)
        deadline = now + limit
        dialsMax = UInt64(
            endpoints.count.multipliedReportingOverflow(by: rounds).overflow ? .max : endpoints.count * rounds)
        until = now
        next(at: now)
    }

    public mutating func poll() -> Effect? { effects.pop() }
    public var nextWake: Instant? { if case .over = phase { nil } else { until } }

    public mutating func wake(at now: Instant) {
        guard let due = nextWake, due <= now else { return }
        switch phase {
        case .over: break
        case .pausing: next(at: now)
        case .dialing(let id): fail(id, "no answer in time", at: now)
        case .asking(let id, _): fail(id, "it said nothing", at: now)
        }
    }
    public mutating func secured(_ id: ConnectionID, peer: PeerID, at now: Instant) {
        guard case .dialing(id) = phase else { return effects.push(.close(id)) }
        phase = .asking(id, peer)
        until = now + Self.patience
        parser = FrameParser()
        parser.proven = true
        effects.push(.write(id, Frame.small(.apply, credential.encoded)))
    }
    public mutating func failed(_ id: ConnectionID, _ why: String, at now: Instant) {
        guard case .dialing(id) = phase else { return }
        (problem, phase, until) = (why, .pausing, now + Self.pause)
        giveUpOrWait(at: now)
    }
    public mutating func closed(_ id: ConnectionID, at now: Instant) {
        guard case .asking(id, _) = phase else { return }
        // A node of another kind of pool, or of an older version, hangs up on what it does not know.
        (problem, phase, until) = ("it hung up", .pausing, now + Self.pause)
        giveUpOrWait(at: now)
    }
    public mutating func received(_ id: ConnectionID, _ bytes: [UInt8], at now: Instant) {
        guard case .asking(id, let peer) = phase else { return }
        var rest = bytes[...]
        do throws(MalformedBytes) {
            while case .asking = phase, let event = try parser.next(&rest) {
                guard case .small(let kind, _, let payload) = event else { throw MalformedBytes("no answer") }
                switch kind {
                case .grant: try granted(payload, by: peer, id)
                case .refusal:
                    guard let why = payload.first.flatMap(PoolRefusal.init) else {
                        throw MalformedBytes("a refusal of no known kind")
                    }
                    end(id, .failure(.refused(why)))
                // Its own hello goes ahead of its answer.
                default: continue
                }
            }
        } catch {
            fail(id, error.description, at: now)
        }
    }
    private mutating func granted(_ payload: [UInt8], by peer: PeerID, _ id: ConnectionID) throws(MalformedBytes) {
        let grant = try PoolGrant(encoded: payload)
        do throws(PoolRefusal) {
            try grant.check(authority: credential.warrant.authority, from: peer)
        } catch {
            throw MalformedBytes("who answered is no member of this pool: \(error.ofAnother)")
        }
        end(id, .success(grant))
    }
    private mutating func end(_ id: ConnectionID, _ result: Result<PoolGrant, Failure>) {
        phase = .over
        effects.push(.close(id))
        effects.push(.ended(result))
    }
    private mutating func fail(_ id: ConnectionID, _ why: String, at now: Instant) {
        effects.push(.close(id))
        (problem, phase, until) = (why, .pausing, now + Self.pause)
        giveUpOrWait(at: now)
    }
    private mutating func giveUpOrWait(at now: Instant) {
        guard now >= deadline || dials >= dialsMax else { return }
        phase = .over
        let asked = endpoints[Int((dials - 1) % UInt64(endpoints.count))]
        effects.push(.ended(.failure(.unanswered("\(asked): \(problem)"))))
    }
    private mutating func next(at now: Instant) {
        let endpoint = endpoints[Int(dials % UInt64(endpoints.count))]
        let id = ConnectionID(dials * 2 + 1)
        dials += 1
        phase = .dialing(id)
        until = now + Self.patience
        effects.push(.dial(id, endpoint))
    }
}
