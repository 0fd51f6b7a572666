public import Primitives

/// Something that strikes one host of a storm, from a moment until another; then it is over, for good. So any of them can be left out and
/// the others stay what they are.
public struct Trouble: Hashable, Sendable, CustomStringConvertible {
    public enum Kind: Hashable, Sendable {
        /// Its process is killed, and begins again in its folder.
        case crash(otherPort: Bool)
        /// Its machine loses its power; nobody is told.
        case powerCut
        /// Everything is switched off at once, whatever host is named: peers, launcher, node; and begins again in its folders.
        case blackout
        /// Its process is killed, and begins again on an empty disk.
        case emptied
        /// Its owner stops it in good order, and starts it again.
        case goodbye
        /// Its process stands still: SIGSTOP.
        case freeze
        /// Its machine sleeps: it stands still, and nothing reaches it.
        case sleep
        /// Its line: nothing passes.
        case cut
        /// Nothing reaches it; what it says arrives.
        case deaf
        /// What it says is lost; it hears the others.
        case mute
        /// It and those above it in the list of hosts see nobody of the others.
        case partition
        case slowLine(factor: Double)
        /// Share of packets, both ways.
        case loss(share: Double)
        /// More delay, both ways, with jitter of half of it.
        case delay(milliseconds: Int)
        case slowDevice(factor: Double)
        case disk(VirtualDisk.Trouble)
        /// One write to its disk goes wrong. Not drawn: for studies.
        case badWrite(number: Int, VirtualDisk.BadWrite)
        /// A bit on its disk is another one. Seen when a process next reads it.
        case flippedBit
        /// It has another address from now on.
        case moved
        /// Its router forgets all mappings. Drawn for worlds with routers only.
        case remapped
        /// Its clock is set to another time of day; its next process lives by that.
        case clock(seconds: Int)
        /// It is not there before the end of this.
        case late
        /// Whoever leads then is killed, whatever host is named. Drawn for several electors only, as all below.
        case dethroned
        /// Nothing passes from another host to it; what it says arrives there.
        case oneWay(from: Int)
        /// Its disk answers nothing before the end of this.
        case stall
        /// Its elector lies.
        case lies(ElectorLie)
    }
    public enum ElectorLie: String, Hashable, Sendable {
        /// With each ack another one, rightly signed, of the same term and size and of another log: some hear both, some only that.
        case signsTwice = "signs two logs"
        /// Acks with another's signature; of entries, terms, eras and jobs that there are not.
        case forges = "forges acks"
    }
    public var kind: Kind
    /// Its place in the topology.
    public var host: Int
    public var name: String
    /// Virtual seconds.
    public var from: Double
    public var until: Double

    package init(_ kind: Kind, host: Int, name: String, from: Double, until: Double) {
        self.kind = kind
        self.host = host
        self.name = name
        self.from = from
        self.until = until
    }

    /// For people: "12.3-20.1 s peer-1: crash".
    public var description: String {
        let time = until > from ? "\(fixed(from, 2))-\(fixed(until, 2)) s" : "\(fixed(from, 2)) s"
        return "\(time) \(name): \(what)"
    }
    private var what: String {
        switch kind {
        case .crash(let otherPort): otherPort ? "crash, back on another port" : "crash"
        case .powerCut: "power cut"
        case .blackout: "everything is off"
        case .emptied: "crash, back on an empty disk"
        case .goodbye: "goodbye"
        case .freeze: "freeze"
        case .sleep: "sleep"
        case .cut: "line cut"
        case .deaf: "hears nothing"
        case .mute: "is not heard"
        case .partition: "partition, with all above it"
        case .slowLine(let factor): "line \(fixed(factor, 1)) times slower"
        case .loss(let share): "loses \(fixed(100 * share, 1)) % of packets"
        case .delay(let milliseconds): "\(milliseconds) ms more delay"
        case .slowDevice(let factor): "computes \(fixed(factor, 1)) times slower"
        case .disk(let trouble): "disk \(trouble.rawValue)"
        case .badWrite(let number, let how): "write \(number) to its disk \(how.rawValue)"
        case .flippedBit: "a bit on disk flips"
        case .moved: "another address"
        case .remapped: "its router forgets"
        case .clock(let seconds): "clock off by \(seconds) s"
        case .late: "comes late"
        case .dethroned: "whoever leads is killed"
        case .oneWay(let from): "hears nothing of host \(from)"
        case .stall: "its disk stalls"
        case .lies(let lie): "its elector \(lie.rawValue)"
        }
    }
    /// One word, for counting.
    public var word: String {
        switch kind {
        case .crash: "crash"
        case .powerCut: "power-cut"
        case .blackout: "blackout"
        case .emptied: "emptied"
        case .goodbye: "goodbye"
        case .freeze: "freeze"
        case .sleep: "sleep"
        case .cut: "cut"
        case .deaf: "deaf"
        case .mute: "mute"
        case .partition: "partition"
        case .slowLine: "slow-line"
        case .loss: "loss"
        case .delay: "delay"
        case .slowDevice: "slow-device"
        case .disk: "disk"
        case .badWrite: "bad-write"
        case .flippedBit: "flipped-bit"
        case .moved: "moved"
        case .remapped: "remapped"
        case .clock: "clock"
        case .late: "late"
        case .dethroned: "dethroned"
        case .oneWay: "one-way"
        case .stall: "stall"
        case .lies: "lies"
        }
    }
}
