//! Programs that call each other at the same time, each on one loop: bidders at an auction. A bidder passes an endpoint to
//! be called at, and gets a session to bid with. Nothing waits for a reply, so nothing can deadlock.
//!
//! Run it with `cargo run --example callbacks`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::{env, process, thread};

use jsoncomm::server::{Control, ServerHandle};
use jsoncomm::socket::Socket;
use jsoncomm::{Call, Connection, Kind, Limits, Server};

/// What the auctioneer serves to all.
#[jsoncomm::service(name = "example.auction")]
trait Auction {
    /// Takes part. The auctioneer calls `bidder`, and the result is the right to bid.
    fn join(
        &mut self,
        call: &mut Call,
        name: String,
        #[fd] bidder: BidderClient,
    ) -> Result<BidsClient, String>;
}

/// What a session with the auctioneer serves.
#[jsoncomm::service(name = "example.bids")]
trait Bids {
    #[oneway]
    fn bid(&mut self, call: &mut Call, price: u32);
}

/// What a bidder serves.
#[jsoncomm::service(name = "example.bidder")]
trait Bidder {
    /// Somebody else has bid.
    #[oneway]
    fn outbid(&mut self, price: u32);
    #[oneway]
    fn sold(&mut self, price: u32);
}

struct Auctioneer {
    /// By the tags of their sessions.
    bidders: BTreeMap<u64, (String, BidderClient)>,
    joined: u64,
    price: u32,
}

impl Auction for Auctioneer {
    fn join(
        &mut self,
        call: &mut Call,
        name: String,
        bidder: BidderClient,
    ) -> Result<BidsClient, String> {
        let opened = call.open_session::<dyn Bids>(self.joined);
        let (bids, _session) = opened.map_err(|error| error.to_string())?;
        self.bidders.insert(self.joined, (name, bidder));
        self.joined += 1;
        if self.bidders.len() == 2 {
            self.tell_others(self.joined);
        }
        Ok(BidsClient::new(bids))
    }
}

impl Bids for Auctioneer {
    fn bid(&mut self, call: &mut Call, price: u32) {
        let Some(tag) = call.tag().filter(|_| price > self.price) else {
            return;
        };
        self.price = price;
        self.tell_others(tag);
    }
}

impl Auctioneer {
    /// Tells the first of the others the price.
    fn tell_others(&self, tag: u64) {
        let other = self.bidders.iter().find(|(other, _)| **other != tag);
        if let Some((_, (_, bidder))) = other {
            // If the bidder hangs up, its session ends.
            let _ = bidder.outbid(self.price);
        }
    }

    /// A bidder has left: its session has ended.
    fn left(&mut self, control: &mut Control<Self>, tag: u64) {
        self.bidders.remove(&tag);
        if let Some((name, bidder)) = self.bidders.values().next().filter(|_| self.price > 0) {
            let _ = writeln!(io::stdout(), "sold to {name} for {}", self.price);
            let _ = bidder.sold(self.price);
        } else {
            control.stop();
        }
    }
}

struct Client {
    most: u32,
    bids: Option<BidsClient>,
    handle: ServerHandle<Self>,
}

impl Bidder for Client {
    fn outbid(&mut self, price: u32) {
        if price < self.most {
            let _ = self.bids.as_ref().map(|bids| bids.bid(price + 1));
        } else {
            // The loop closes a connection that the program has dropped.
            self.bids = None;
            self.handle.stop();
        }
    }

    fn sold(&mut self, _: u32) {
        self.handle.stop();
    }
}

/// Bids up to `most`, on one loop that both serves and calls.
fn bid(path: &Path, name: &str, most: u32) -> Result<(), Box<dyn Error>> {
    let mut server = Server::new(Limits::default())?;
    let (near, far) = Socket::pair(Kind::Seqpacket)?;
    server
        .adopt(near.as_fd().try_clone_to_owned()?)?
        .serve::<dyn Bidder>();
    drop(near);
    let bidder = BidderClient::new(Connection::from_fd(far.as_fd().try_clone_to_owned()?)?);
    let auction = AuctionClient::new(Connection::open(path)?);
    // The loop does not run yet, so this call may wait.
    let bids = auction.join(name, &bidder)?;
    // The auctioneer has copies of its own.
    drop((far, bidder));
    // From now on nothing waits.
    server.drive(&bids)?;
    let mut client = Client {
        most,
        bids: Some(bids),
        handle: server.handle(),
    };
    Ok(server.run(&mut client)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let path: PathBuf = env::temp_dir().join(format!("callbacks-{}.sock", process::id()));
    let mut server = Server::new(Limits::default())?;
    server.bind(&path, Kind::Seqpacket)?.serve::<dyn Auction>();
    server.sessions::<dyn Bids>(Auctioneer::left)?;
    let bidders = [("Ada", 60), ("Grace", 100)].map(|(name, most)| {
        let path = path.clone();
        thread::spawn(move || bid(&path, name, most).map_err(|error| error.to_string()))
    });
    let mut auctioneer = Auctioneer {
        bidders: BTreeMap::new(),
        joined: 0,
        price: 0,
    };
    server.run(&mut auctioneer)?;
    for bidder in bidders {
        bidder.join().map_err(|_| "a bidder panicked")??;
    }
    Ok(())
}
