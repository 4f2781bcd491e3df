// Words of the synthetic schemas, written for this project.

/** "name t, age i" as columns. Types: t text, i integer, r real, y year, d date. */
const columns = (text) =>
  text.split(",").map((column) => {
    const [name, type] = column.trim().split(" ");
    return { name, type };
  });
const words = (text) => text.split(/\s+/);
const phrases = (text) => text.split(",").map((phrase) => phrase.trim());

/** Entities with columns of their own. */
export const ENTITIES = `
employee: name t, salary i, department t, hire_date d, age i, city t, job_title t, bonus i, email t
department: name t, budget r, location t, manager t, head_count i
customer: name t, email t, city t, country t, age i, join_date d, credit_limit i, phone t
order: customer_name t, order_date d, total_amount r, status t, quantity i, ship_city t
product: name t, price r, category t, stock i, brand t, weight r, color t, rating r
supplier: company_name t, city t, country t, phone t, rating i
invoice: invoice_number t, amount r, due_date d, status t, currency t, tax r
payment: amount r, method t, payment_date d, status t
student: name t, age i, major t, gpa r, grade i, enrollment_year y, hometown t
teacher: name t, subject t, age i, salary i, years_of_experience i
course: title t, credits i, department t, level t, capacity i
school: name t, district t, enrollment i, founded_year y, city t
book: title t, author t, genre t, pages i, price r, publication_year y, publisher t, language t
author: name t, nationality t, birth_year y, awards i
library: name t, city t, books_count i, opening_year y
movie: title t, director t, genre t, release_year y, rating r, budget i, duration i, gross i
actor: name t, age i, nationality t, birth_year y, films i
singer: name t, country t, age i, genre t, songs_count i, debut_year y
song: title t, artist t, duration i, genre t, release_year y, plays i
album: title t, artist t, release_year y, label t, sales i
concert: title t, year y, venue t, attendance i, ticket_price r
stadium: name t, city t, capacity i, opened_year y, average_attendance r
team: name t, city t, coach t, wins i, losses i, points i, founded_year y
player: name t, position t, age i, height r, weight r, goals i, team_name t, nationality t, salary i
match: home_team t, away_team t, match_date d, attendance i, round i, stadium t
city: name t, country t, population i, area r, elevation i, region t
country: name t, continent t, population i, area r, capital t, language t, gdp r
river: name t, length i, country t, mouth t
mountain: name t, height i, country t, range t, first_ascent_year y
airport: name t, city t, country t, code t, elevation i, runways i
airline: name t, country t, fleet_size i, founded_year y, hub t
flight: flight_number t, origin t, destination t, departure_date d, price r, distance i, airline t, seats i
aircraft: model t, manufacturer t, seats i, range i, max_speed i
car: model t, make t, year y, price i, horsepower i, mileage i, color t, fuel_type t
ship: name t, type t, tonnage i, nationality t, built_year y
train: name t, origin t, destination t, departure_time t, speed i
hotel: name t, city t, stars i, rooms i, price r, rating r
room: room_number i, type t, price r, beds i, floor i
restaurant: name t, cuisine t, city t, rating r, seats i, opening_year y
dish: name t, price r, calories i, category t, spice_level i
recipe: title t, author t, servings i, cooking_time i, difficulty t
patient: name t, age i, gender t, blood_type t, admission_date d, diagnosis t, weight r
doctor: name t, specialty t, years_of_experience i, hospital t, salary i
hospital: name t, city t, beds i, founded_year y
appointment: patient_name t, doctor_name t, appointment_date d, status t, duration i
medicine: name t, price r, manufacturer t, dosage i, expiry_date d
museum: name t, city t, visitors i, opened_year y, ticket_price r
painting: title t, artist t, year y, style t, value r, height r, width r
artist: name t, country t, birth_year y, style t, works i
exhibition: title t, theme t, year y, ticket_price r, visitors i
event: name t, location t, event_date d, attendees i, cost r, type t
project: name t, budget r, start_date d, end_date d, status t, manager t, priority i
task: title t, priority i, status t, assignee t, due_date d, estimated_hours r
account: owner t, balance r, type t, open_date d, branch t
transaction: amount r, type t, transaction_date d, merchant t, currency t
loan: amount r, interest_rate r, term i, status t, borrower t
branch: name t, city t, manager t, assets r
store: name t, city t, size i, opening_year y, manager t, revenue r
sale: amount r, sale_date d, region t, product_name t, quantity i, discount r
warehouse: location t, capacity i, manager t, city t
vehicle: plate t, type t, capacity i, purchase_year y, driver t
driver: name t, age i, license_number t, trips i, rating r
user: username t, email t, age i, signup_date d, country t, followers i, status t
post: title t, author t, likes i, views i, category t, published_date d
comment: author t, likes i, created_date d, topic t
article: title t, journal t, year y, citations i, author t
device: name t, type t, manufacturer t, price r, battery_life i, release_year y
phone: model t, brand t, price r, memory i, screen_size r, color t
server: hostname t, location t, memory i, cores i, status t, operating_system t
ticket: subject t, status t, priority i, assignee t, created_date d
property: address t, city t, price i, bedrooms i, area r, type t, year_built y
apartment: building t, floor i, rooms i, rent i, city t
farm: name t, owner t, area r, region t, cattle i
crop: name t, yield r, season t, price r, region t
animal: name t, species t, age i, weight r, habitat t
pet: name t, breed t, age i, weight r, owner t
plant: name t, family t, height r, color t, origin t
member: name t, age i, membership_type t, join_date d, city t, points i
club: name t, location t, members_count i, founded_year y, president t
race: name t, track t, race_date d, distance r, laps i, winner t
track: name t, location t, length r, seating i, year_opened y
election: party t, candidate t, votes i, year y, district t
party: name t, leader t, seats i, founded_year y, ideology t
film: title t, studio t, gross i, year y, director t
show: title t, network t, episodes i, seasons i, rating r, language t
channel: name t, owner t, subscribers i, launch_year y, language t
magazine: title t, publisher t, circulation i, price r, frequency t
company: name t, industry t, revenue r, employees_count i, headquarters t, founded_year y, ceo t
factory: name t, city t, workers i, output i, opened_year y
machine: model t, type t, cost r, power i, purchase_date d
sensor: name t, location t, temperature r, humidity r, status t
bridge: name t, length i, city t, built_year y, type t
park: name t, area r, city t, visitors i, state t
station: name t, city t, platforms i, passengers i, opened_year y
route: origin t, destination t, distance r, stops i, duration i
tournament: name t, year y, prize i, winner t, surface t
game: title t, platform t, price r, release_year y, developer t, score i
language: name t, speakers i, family t, region t
planet: name t, mass r, radius r, moons i, distance r
star: name t, constellation t, magnitude r, distance r
shipment: tracking_number t, weight r, destination t, ship_date d, carrier t, cost r
contract: title t, value r, start_date d, end_date d, client t
person: name t, age i, gender t, job t, city t, height r, nationality t
child: name t, age i, school t, grade i
staff: name t, role t, salary i, age i, office t
worker: name t, wage r, shift t, age i, skill t
guest: name t, country t, nights i, check_in_date d
review: rating i, reviewer t, review_date d, helpful_votes i
subscription: plan t, price r, start_date d, status t
campaign: name t, budget r, clicks i, channel t, start_date d
cafe: name t, city t, rating r, seats i
wine: name t, grape t, year y, price r, score i, country t
beer: name t, style t, alcohol r, brewery t, price r
bus: number i, line t, capacity i, driver t
lake: name t, depth i, area r, country t
island: name t, area r, population i, country t
cinema: name t, city t, screens i, capacity i
bank: name t, city t, assets r, customers_count i
university: name t, city t, students_count i, founded_year y, ranking i
professor: name t, department t, salary i, publications i
exam: subject t, exam_date d, score i, student_name t
prize: name t, year y, amount i, winner t
mission: name t, launch_date d, status t, crew_size i, agency t
satellite: name t, launch_year y, orbit t, mass r
`
  .trim()
  .split("\n")
  .map((line) => {
    const [name, list] = line.split(":");
    return { name: name.trim(), columns: columns(list) };
  });

/** Columns that fit any table. */
export const COMMON =
  columns(`name t, title t, type t, category t, status t, code t, description t, price r, cost r, amount r,
total i, count i, quantity i, size i, weight r, height r, length r, width r, age i, year y, date d, created_date d,
start_date d, end_date d, score i, rating r, rank i, level i, points i, votes i, views i, value r, rate r, balance r,
salary i, budget r, revenue r, profit r, capacity i, population i, duration i, distance r, speed i, temperature r, city t,
country t, region t, state t, address t, location t, email t, phone t, owner t, manager t, color t, brand t, gender t,
language t, nationality t, first_name t, last_name t, full_name t, birth_date d, birth_year y, notes t, tag t, priority i,
department t, position t, role t, team t, group_name t, source t, target t, volume r, area r, depth i, percentage r,
discount r, tax r, version t, number i, floor i, hours r, minutes i, month t, day i, season t, material t, shape t`);

export const IRREGULAR = {
  person: "people",
  child: "children",
  man: "men",
  woman: "women",
  mouse: "mice",
  foot: "feet",
  staff: "staff",
  aircraft: "aircraft",
  species: "species",
  series: "series",
  equipment: "equipment",
  bus: "buses",
  gpa: "gpas",
};

export const FIRST_NAMES =
  words(`Anna Ben Carla David Emma Frank Grace Henry Ivy Jack Karen Leo Maria Nina Oscar Paul Quinn Rosa
Sam Tina Uma Victor Wendy Xavier Yara Zoe Alice Bob Chloe Daniel Elena Felix Hannah Ian Julia Kevin Laura Marco Nora Olivia
Peter Rachel Simon Tom Vera Will Amy Brian Diana Eric Fiona George Helen James Kate Liam Mike Noah Ryan Sara`);

export const LAST_NAMES =
  words(`Smith Jones Brown Taylor Miller Davis Wilson Moore Clark Lewis Walker Hall Young King Wright Scott
Green Baker Adams Nelson Carter Mitchell Turner Parker Collins Stewart Morris Cook Bell Murphy Bailey Cooper Kim Lee Chen
Garcia Lopez Martin Silva Rossi Weber Novak Tanaka Singh Khan Ivanov Larsen Dubois Fischer Kowalski`);

export const PLACES =
  words(`Paris London Berlin Madrid Rome Vienna Prague Oslo Dublin Lisbon Athens Warsaw Tokyo Kyoto Beijing
Shanghai Delhi Mumbai Cairo Lagos Nairobi Sydney Perth Toronto Montreal Boston Chicago Denver Dallas Houston Seattle Miami
Austin Portland Lima Bogota Santiago Quito Zurich Geneva Milan Naples Munich Hamburg Leipzig Porto Turin Ghent Bergen Texas
Ohio Alabama Nevada Utah Bavaria Tuscany Provence`);

export const COUNTRIES =
  words(`France Germany Spain Italy Japan China India Brazil Canada Mexico Egypt Kenya Norway Sweden Finland
Poland Greece Turkey Chile Peru Cuba Ireland Portugal Austria Hungary Denmark Belgium Morocco Vietnam Thailand Indonesia
Australia Argentina Colombia Iceland Croatia Romania Ghana Nepal Israel USA UK`);

export const TWO_WORD_PLACES = phrases(
  `New York,Los Angeles,San Francisco,Hong Kong,Cape Town,Buenos Aires,Las Vegas,San Diego,North Shore`,
);

export const LABELS =
  words(`active inactive open closed pending shipped delivered cancelled paid unpaid new used full empty high low
medium red blue green black white yellow silver rock jazz pop classical drama comedy action horror fiction science history
math physics biology chemistry music art sports food travel health finance sales marketing engineering design support legal
operations research premium basic gold standard free monthly annual cash card wood steel plastic summer winter spring north
south east west central male female full-time junior senior manager director analyst developer nurse teacher English Spanish
French German Italian Japanese Chinese Sales Marketing Engineering Finance Design Research Legal Support Operations Toyota
Honda Ford Apple Samsung Sony Nike Drama Comedy Action Rock Jazz Pop Fiction Electronics Furniture Clothing Toys Books
Grocery Garden Active Pending Closed Open Completed Cancelled Delivered Gold Silver Premium Basic`);

export const PHRASES =
  phrases(`Computer Science,in progress,on hold,Data Analyst,Project Manager,Blue Note,Red Lion,Science Fiction,
Human Resources,Customer Service,out of stock,Software Engineer,Black Forest,Golden Gate,Green Valley,Civil Engineering`);
