import Channels
import Kademlia
import Membership
import Messages
public import Pools
public import Primitives
import Telemetry

/// Pools that keep members (docs/MEMBERSHIP.md): the door is the channels'; what is known of members is kept here, and members are found who tell more.
extension DaemonCore {
    /// What its owner does with the pool's members; nil where the pool keeps none.
    public mutating func changeBook<T>(at now: Instant, _ change: (inout PoolBook, Instant) -> T) -> T? {
        defer { drain(at: now) }
        return channels.change(at: now) { change(&$0, now) }
    }

    mutating func keepBook(at now: Instant) {
        guard let book = channels.book else { return }
        usePoolKeys(at: now)
        effects.push(.keepBook(book.encoded))
        channels.bookKept()
    }
    private mutating func usePoolKeys(at now: Instant) {
        guard let keys = channels.book?.poolKeys(at: now) else { return }
        directory.perform(at: now) { $0.use(poolKeys: keys) }
        effects.push(.poolKeys(keys))
    }
    /// What is new of the pool's members.
    mutating func tell(_ statement: PoolStatement, at now: Instant) {
        switch statement {
        case .digest: break
        case .key(let key): say(.poolKeyChanged(serial: Int(key.serial)), at: now)
        case .credential(let shown) where shown.peer == channels.local:
            let life = shown.certificate.expires - shown.certificate.issued
            say(.membershipRenewed(days: Double(life) / 86_400), at: now)
        case .credential(let shown):
            say(
                .memberJoined(invite: shown.warrant.id.short, role: shown.warrant.role.word),
                peer: name(of: shown.peer), at: now)
        case .revocation(let revocation) where revocation.kind == .peer:
            guard let peer = PeerID(revocation.subject.bytes) else { return }
            say(.memberRemoved, peer: name(of: peer), at: now)
        case .revocation(let revocation):
            say(
                .inviteRevoked(
                    invite: revocation.subject.short, membersToo: revocation.kind == .inviteAndMembers), at: now)
        }
    }
    /// Bootstrap nodes are asked first, and whoever else is there.
    mutating func seekMembers(_ isLonely: Bool, at now: Instant) {
        usePoolKeys(at: now)
        if isLonely {
            for node in directory.overlay.configuration.bootstrap { channels.hear(of: node, from: nil, at: now) }
        }
        guard !watchesMembers else { return }
        if isLonely {
            directory.watch(topic: Self.poolTopic, slowest: .seconds(60), at: now)
        } else {
            directory.unwatch(topic: Self.poolTopic)
        }
    }
    /// It looks for members anyway, for jobs.
    private var watchesMembers: Bool { services.leads || services.watchPart != nil }
    /// Of those who are found under a topic: whoever only wants to hear news needs few.
    func wantedOf(_ topic: [UInt8]) -> Int {
        channels.book != nil && topic == Self.poolTopic && !watchesMembers ? 4 : .max
    }

    /// A watcher reads, and lets itself be carried. Whether it may have the result of a job is for that job's manifest to say.
    func mayDo(_ peer: PeerID, _ message: Message) -> Bool {
        guard channels.role(of: peer) == .watcher else { return true }
        switch message {
        case .readRequest, .logRequest, .ping, .pong, .stateRequest, .indexRequest, .chunkRequest: return true
        default: return message.conversation == .carriage
        }
    }
}

extension DaemonCore {
    /// Of the processor time that it asked for, what other programs left it; nil where that is enough, or not known.
    public mutating func count(processorShare: Double?) {
        services.memberPart?.value.count(processorShare: processorShare)
    }
}
