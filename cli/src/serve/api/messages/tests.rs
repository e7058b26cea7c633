mod events;
mod requests;
